"""What is kept on disk: results, outbox, labels, pictures; retention, recovery, export.

Imports payloads and what is below it. Thread ``publisher`` owns the database, thread ``evidence`` writes
pictures; commands open it to read, or while no agent runs.
"""
