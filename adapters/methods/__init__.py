"""Methods that adapt without labels as pure steps on torch: BATCLIP, and what methods share.

Imports learner, torch_model and what is below them. Not needed on a line PC.
Used by benchmarks.
"""
