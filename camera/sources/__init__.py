"""Where pictures come from: devices, streams, clips, folders; and which one a config means.

Imports recording, simulation and what is below them.
A camera thread iterates each; a clip has a process beside it that looks for damage.
"""
