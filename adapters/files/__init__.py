"""Files that last: written in one step, strict JSON, names of formats, locks.

Imports nothing of ours.
Any thread may use it.
"""
