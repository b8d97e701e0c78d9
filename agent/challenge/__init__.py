"""Shift-start checks: known bad parts before the camera must fail, good ones must pass; a miss alarms.

Imports audit, domain and config.
The main thread owns the book; results are shown to it from any thread.
"""
