"""One proposal of the learner: samples, losses, optimiser, update.

Imports gate and what is below it; torch only where the model runs on it.
Used by the learners' process.
"""
