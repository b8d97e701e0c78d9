"""config.yaml: what it can say, how its text is read and checked, and what was in force last.

Imports base. The main thread reads and compares; the values are frozen, so any thread may hold them.
Thread ``config-watch`` (watcher) notices that the file was saved.
"""
