"""The adapter as a value, the engine's promise, prompts, tokens, files of versions.

Imports neither torch nor ONNX Runtime.
Values are frozen; each store has one owner.
"""
