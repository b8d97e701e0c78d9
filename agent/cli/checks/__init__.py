"""`mekiki check` and `mekiki doctor`: a config looked at without running it, and an installation tried.

Imports what runs an agent, and answers in sentences.
Runs in the main thread of these commands; cameras are tried in a thread each.
"""
