"""Backbones that turn a picture into patch features, and how they are opened.

Imports ONNX Runtime's session of `adapters.encoders`, and what is below; no torch.
Inspector and commands.
"""
