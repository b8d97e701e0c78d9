"""The verbs of `mekiki baseline`: show a station's baseline, compare two, write its samples to files.

Imports baseline and what is below it, each verb what it needs when it is called.
The main thread of the command.
"""
