"""A recording judged and learned from again, in lockstep.

Imports learning, baseline and what is below them.
Runs in the main thread of `mekiki replay`, in one process.
"""
