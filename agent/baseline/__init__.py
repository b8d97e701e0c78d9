"""How a known-good line is watched before it is commissioned, and samples that a person named.

Imports learning and what is below it.
Runs in the main thread of `mekiki commission` and of the demo.
"""
