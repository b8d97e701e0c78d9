"""`mekiki challenge`: known parts before the camera of a line that runs; what is missed alarms.

Imports challenge, golden and what is below them once the command runs.
The main thread of the command; the agent counts.
"""
