"""Are the pictures others than at commissioning? Drift, change points, reject rate, degradation.

Imports core and engines. Pure over arrays.
Used by the learners' process.
"""
