"""The simulated line: parts, defects, and what lamp, lens and sensor do as they age.

Imports pictures and core.
Used by the camera thread of a simulated station, and by benchmarks.
"""
