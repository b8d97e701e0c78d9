"""What clients ask over MQTT: read, checked, carried out once, answered.

Imports reload, homeassistant, mqtt and what is below them.
The main thread carries out; paho's thread only hands over.
"""
