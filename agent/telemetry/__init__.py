"""How the agent is doing: health, counters, status topics, Prometheus, `mekiki status`.

Imports mqtt and what is below it. The main thread composes; the servers answer in threads of their own.
"""
