"""Both encoders as a function that can be differentiated by its LayerNorms; sessions of ONNX Runtime.

Imports torch_model, bundle and core; torch only in torch_encoders.
Used by the learners' process.
"""
