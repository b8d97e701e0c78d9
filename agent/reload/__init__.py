"""A config that was saved or set from outside, brought into force while the line runs.

Imports telemetry and what is below it; of sparkplug and mqtt only what a restart would ask of them.
The main thread does it; thread ``config-watch`` notices that the file was saved.
"""
