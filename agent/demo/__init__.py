"""`mekiki demo`: broker, simulated line and agent in one process.

Imports app and what is below it.
Its own main thread, with the agent's threads beside it.
"""
