"""Makes a bundle from a checkpoint: graphs forward and back, weights, int8.

Imports engines, torch and onnx. Not needed on a line PC.
Runs in `mekiki model build`.
"""
