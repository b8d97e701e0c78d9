"""What travels from a camera, what a source promises, and settings of cameras.

Imports nothing of ours.
Values are frozen; any thread may hold them.
"""
