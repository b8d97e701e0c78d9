"""Recordings: written by `mekiki record`, played as the camera that they came from.

Imports pictures and core.
Used by camera threads and by commands.
"""
