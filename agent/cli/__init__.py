"""The command line: one module for each command.

Imports everything, each command what it needs when it is called.
The main thread of each command.
"""
