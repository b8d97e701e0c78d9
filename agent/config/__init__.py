"""config.yaml: what it can say, how its text is read and checked, and what differs between two.

Imports base. The main thread reads and compares.
The values are frozen, so any thread may hold them.
"""
