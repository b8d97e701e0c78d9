"""`mekiki production`: what is being made, order, lot and shift; to look at and to set.

Imports output, and reload and what is below it once a command needs it.
The main thread of the command.
"""
