"""CLIP as a function of (input, adapter), and everything that may change its weights."""

import os

# ONNX Runtime 1.29 and later tell their makers of each run, and keep an identifier and a cache on disk; only
# what is set before it is first imported keeps all of that from happening. Two names, by version.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
os.environ.setdefault("ORT_TELEMETRY_DISABLED", "1")
