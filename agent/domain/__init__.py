"""Values that several packages exchange: verdicts, conditions, stats, answers to commands.

Imports base and config. Frozen, and made complete: any thread may hold them.
No thread of its own.
"""
