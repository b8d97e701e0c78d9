"""A config that was saved or set from outside, brought into force while the line runs.

Imports what a restart would need, to ask before whether it could.
The main thread does it.
"""
