"""The connection to the broker, what goes out over it, and what is retained there.

Imports learning and what is below it; connection.py alone uses paho, packets.py its packets.
Thread ``publisher`` owns the connection; paho's own thread hands over what comes.
"""
