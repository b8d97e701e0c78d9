"""`mekiki evaluate`: a folder with one sub-folder per class, judged as a station would.

Imports evaluation and what is below it once the command runs.
The main thread of the command; it needs neither an agent nor a config.
"""
