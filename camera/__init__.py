"""Frames: from a camera, a folder, a clip or the simulated line to what the model reads. No torch, no MQTT."""
