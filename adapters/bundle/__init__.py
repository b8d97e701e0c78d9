"""A model bundle as a folder of files: its manifest, and what is in it.

Imports core.
Used by every thread that opens a model.
"""
