"""Frames: from a camera, folder, clip or the simulated line to what the model reads. No torch, no MQTT."""
