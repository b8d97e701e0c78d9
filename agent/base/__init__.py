"""What everything else in the agent builds on: errors, ids, text, time, JSON, names on the wire.

Imports nothing of the agent, and neither paho, cv2 nor torch.
No thread of its own; any thread may use it.
"""
