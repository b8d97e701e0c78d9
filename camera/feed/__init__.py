"""The thread of one camera, from a capture to the mailbox of the inspector.

Imports sources and what is below them.
Threads ``camera-<station>``.
"""
