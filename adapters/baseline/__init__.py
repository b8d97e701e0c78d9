"""The baseline of a known-good line, how it is made, and the decision threshold.

Imports monitoring and what is below it. Pure but for its file.
Used by `mekiki commission` and by the learners' process.
"""
