"""From values to the JSON that docs/mqtt.md promises: pure functions.

Imports domain and what is below it. Used by the store, by MQTT and by the learners' process.
No thread of its own.
"""
