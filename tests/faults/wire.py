"""The cable between agent and broker: it can be cut, fall silent, crawl, or break inside a packet."""

from __future__ import annotations

import contextlib
import socket
import threading
import time


class Wire:
    """Passes bytes on, in two threads for each connection.

    Attributes:
        silent: nothing passes any more, and nobody is told: a half-open connection.
        bytes_per_s: how fast bytes pass; 0 as fast as they come.
        cut_after: bytes from the agent after which the connection is reset, once; None never.
    """

    def __init__(self, broker: int) -> None:
        self.silent = False
        self.bytes_per_s = 0.0
        self.cut_after: int | None = None
        self._broker = broker
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._server.getsockname()[1])
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """Break every connection without a word."""
        with self._lock:
            for one in self._open:
                # A reset, not an orderly end.
                with contextlib.suppress(OSError):
                    one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                    one.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._server.close()
        self.cut()

    def _accept(self) -> None:
        while True:
            try:
                ours, _ = self._server.accept()
            except OSError:
                return
            try:
                theirs = socket.create_connection(("127.0.0.1", self._broker), 2)
                theirs.settimeout(None)
            except OSError:
                ours.close()
                continue
            with self._lock:
                self._open |= {ours, theirs}
            for source, sink, up in ((ours, theirs, True), (theirs, ours, False)):
                threading.Thread(target=self._pass, args=(source, sink, up), daemon=True).start()

    def _pass(self, source: socket.socket, sink: socket.socket, up: bool) -> None:
        try:
            while data := source.recv(4096):
                while self.silent:
                    time.sleep(0.05)
                if up and self.cut_after is not None:
                    if len(data) >= self.cut_after:
                        sink.sendall(data[: self.cut_after])
                        self.cut_after = None
                        break
                    self.cut_after -= len(data)
                if self.bytes_per_s:
                    for start in range(0, len(data), 64):
                        piece = data[start : start + 64]
                        sink.sendall(piece)
                        time.sleep(len(piece) / self.bytes_per_s if self.bytes_per_s else 0.0)
                else:
                    sink.sendall(data)
        except OSError:
            pass
        with self._lock:
            self._open -= {source, sink}
        for one in (source, sink):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
