"""Picture files through the inspection of a line, without a line: judged, and what differs drawn over them.

Imports what judges, and plans for files.
Runs in the main thread of `mekiki inspect`.
"""
