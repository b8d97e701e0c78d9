"""How well a recipe, or a reference alone, tells apart the pictures of a folder, one sub-folder per class.

Imports golden and what is below it; no station, no agent.
The main thread of `mekiki evaluate`.
"""
