"""How Home Assistant is told what there is: MQTT discovery.

Imports telemetry and what is below it.
Used by the main thread.
"""
