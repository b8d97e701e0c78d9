"""A folder that others put pictures into: which are complete, which are done, where they go.

Imports pictures and core.
Used by the camera thread of the station; receipts come from the publisher's.
"""
