"""What answers at a station: its baseline and versions, who may change that, and the trail of it.

Imports inspection and what is below it. Owned by the learners' process; the agent reads before it starts
that, and commands leave requests.
"""
