"""From a frame to its verdict, and who gets a result for a trigger.

Imports store and what is below it. Thread ``inspector`` runs the loop; thread ``triggers`` ends those that
get no picture in time.
"""
