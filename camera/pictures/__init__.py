"""Pictures: files read strictly, region, quality, the model's input.

Imports core. Pure but for reading files.
Used by camera threads and by commands.
"""
