"""What runs a model to inspect: ONNX Runtime, OpenVINO, torch; chosen, opened and checked.

Imports encoders and what is below it; torch only in torch_engine.
Thread ``inspector`` calls an engine.
"""
