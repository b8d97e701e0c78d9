"""Parts that pass or stop in the picture: found before a background that is learned, followed, counted.

Imports `camera.core` and OpenCV alone. Everything runs in the thread ``camera-<station>`` of its station.
"""
