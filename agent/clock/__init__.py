"""The time by which what is stored grows old: of a clock that was known to be right.

Imports audit and what is below it.
Used by thread ``publisher`` and by commands on the store.
"""
