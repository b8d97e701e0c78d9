"""The agent as an edge node of Sparkplug B.

Imports telemetry and what is below it; payload.py is the only module that knows protobuf.
Thread ``sparkplug`` owns a connection of its own.
"""
