"""What clients ask over MQTT: read, checked, carried out once, answered.

Imports reload, homeassistant, mqtt and what is below them.
Threads ``dispatcher`` and main; paho's thread only hands over.
"""
