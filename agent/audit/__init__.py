"""Who changed what, when and why: chains of hashes on disk.

Imports payloads and what is below it. A trail has one owner: the main thread for the agent's,
the learners' process for a station's.
"""
