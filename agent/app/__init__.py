"""The agent as a whole: builds the parts, starts and watches the threads, ends in order.

Imports everything but replay, demo and cli.
The main thread.
"""
