"""open_clip's models on torch, DiffCLIP, and the image tower of `mekiki-line`.

Imports core, torch and open_clip. Not needed on a line PC.
One thread at a time calls a model.
"""
