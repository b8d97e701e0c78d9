"""A network camera that stalls, floods, changes its size, sends garbage, and goes away."""

from __future__ import annotations

import io
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal

import numpy as np
from PIL import Image

Mood = Literal["well", "stalls", "floods", "grows", "garbage"]


class Camera:
    """JPEG pictures over HTTP.

    Attributes:
        mood: how it behaves, also on open connections.
    """

    def __init__(self) -> None:
        self.mood: Mood = "well"
        self.port = 0
        rng = np.random.default_rng(0)
        self._small = [_jpeg(rng, 160, 120) for _ in range(16)]
        self._large = [_jpeg(rng, 320, 200) for _ in range(16)]
        self.plug()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/stream"

    def picture(self, number: int) -> bytes:
        """Return what it sees, as JPEG."""
        pictures = self._large if self.mood == "grows" else self._small
        return pictures[number % len(pictures)]

    def plug(self) -> None:
        self._gone = gone = threading.Event()
        camera = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=x")
                self.end_headers()
                number = 0
                while not gone.wait(1 / 240 if camera.mood == "floods" else 0.1):
                    if camera.mood == "stalls":
                        continue
                    number += 1
                    picture = camera.picture(number)
                    if camera.mood == "garbage":
                        picture = bytes(reversed(picture))
                    head = f"--x\r\nContent-Type: image/jpeg\r\nContent-Length: {len(picture)}\r\n\r\n"
                    try:
                        self.wfile.write(head.encode() + picture + b"\r\n")
                    except OSError:
                        return

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self._server.daemon_threads = True
        self.port = int(self._server.server_address[1])
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def unplug(self) -> None:
        self._gone.set()
        self._server.shutdown()
        self._server.server_close()


def _jpeg(rng: np.random.Generator, width: int, height: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(rng.integers(60, 190, (height, width, 3), dtype=np.uint8)).save(
        buffer, "JPEG", quality=60
    )
    return buffer.getvalue()
