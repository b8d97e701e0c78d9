"""Whether a proposal may answer, and when to go back. Pure over numbers.

Imports baseline and what is below it.
Used by the learners' process.
"""
