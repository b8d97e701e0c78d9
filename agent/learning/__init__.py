"""How stations learn: the agent's side of it, and the process in which all of it is computed.

Imports versions and what is below it; process.py reaches neither MQTT, the database nor cameras.
Threads ``learners`` and ``learner-<station>`` of the agent; two threads for each station in the process.
"""
