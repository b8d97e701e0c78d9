"""The verbs of `mekiki golden`: parts that a person named, and the reference that is built of the good ones.

Imports golden and what is below it, each verb what it needs when it is called.
The main thread of the command; an agent may run all the while.
"""
