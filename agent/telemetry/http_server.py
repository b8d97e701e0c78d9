"""A small HTTP server that clients cannot keep from answering: bounded threads, and limits on every wait."""

from __future__ import annotations

import logging
import socket
import sys
import threading
import time
from dataclasses import dataclass
from socketserver import ThreadingMixIn
from typing import IO, Any, cast
from wsgiref.simple_server import ServerHandler, WSGIRequestHandler, WSGIServer

log = logging.getLogger(__name__)

MAX_CLIENTS = 8
"""Connections that are served together; one more ends the oldest that has not asked yet."""
_MAX_THREADS = 2 * MAX_CLIENTS
"""Those that were ended and are just leaving included; beyond them a connection is closed at once."""
_ASK_S = 5.0
"""For the whole request, however it is dripped."""
_ANSWER_S = 30.0
"""From the connection to the end of the answer."""
_MAX_LINE = 65_536


@dataclass(slots=True)
class _Client:
    """A connection that is served.

    Attributes:
        began_s: when it came, by `time.monotonic`.
        asked: its request is complete.
        ended: it was closed, and its thread is just leaving.
    """

    began_s: float
    asked: bool = False
    ended: bool = False


class BoundedServer(ThreadingMixIn, WSGIServer):
    """When 8 clients are connected, the next one ends the oldest that has not asked yet, or else the oldest.

    Owns the connections under one lock: the server's thread adds and ends them, each one's own removes it.
    One request a connection, so that nobody can hold one open between two requests.
    """

    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def __init__(self, address: tuple[str, int], *args: Any, **more: Any) -> None:
        self._lock = threading.Lock()
        self._clients: dict[socket.socket, _Client] = {}  # the oldest first
        self.address_family = _family(*address)
        super().__init__(address, *args, **more)

    def verify_request(self, request: Any, client_address: Any) -> bool:
        """Make room for one more; False where too many are still leaving."""
        with self._lock:
            here = [client for client in self._clients.items() if not client[1].ended]
            if len(here) >= MAX_CLIENTS:
                self._end(*next((one for one in here if not one[1].asked), here[0]))
            if len(self._clients) >= _MAX_THREADS:
                return False
            self._clients[request] = _Client(time.monotonic())
        return True

    def asked(self, request: socket.socket) -> None:
        """Note that a client's request is complete; in its thread."""
        with self._lock:
            if request in self._clients:
                self._clients[request].asked = True

    def service_actions(self) -> None:
        """End who takes too long; called by the server's loop, some times a second."""
        now = time.monotonic()
        with self._lock:
            for request, client in self._clients.items():
                limit_s = _ANSWER_S if client.asked else _ASK_S
                if not client.ended and now - client.began_s > limit_s:
                    self._end(request, client)

    def shutdown_request(self, request: Any) -> None:
        """Close a connection; in its thread."""
        with self._lock:
            self._clients.pop(request, None)
        super().shutdown_request(request)

    def server_close(self) -> None:
        """Close the port and all connections."""
        super().server_close()
        with self._lock:
            for request, client in self._clients.items():
                self._end(request, client)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Tell of what is a fault of ours; that a client hung up, or was silent, is none."""
        if not isinstance(sys.exception(), OSError):
            log.error("metrics: a request could not be answered", exc_info=True)

    def _end(self, request: socket.socket, client: _Client) -> None:
        client.ended = True
        try:
            request.shutdown(socket.SHUT_RDWR)  # wakes its thread, which closes it
        except OSError:  # it has gone already
            return


class BoundedHandler(WSGIRequestHandler):
    """Reads one request and answers it."""

    timeout = _ASK_S  # of one read, and of a whole write
    server: BoundedServer

    def handle(self) -> None:
        """Answer the request, if it comes."""
        self.raw_requestline = self.rfile.readline(_MAX_LINE + 1)
        if len(self.raw_requestline) > _MAX_LINE:
            self.requestline = self.request_version = self.command = ""
            self.send_error(414)
            return
        if not self.parse_request():  # it has been told so
            return
        self.server.asked(self.request)
        sink = cast(IO[bytes], self.wfile)
        answer = _Answer(self.rfile, sink, self.get_stderr(), self.get_environ(), multithread=True)
        answer.request_handler = self  # type: ignore[attr-defined]
        answer.run(self.server.get_app())  # type: ignore[arg-type]

    def log_message(self, *_: Any) -> None:
        """Say nothing: a scrape is no fact worth a line."""


class _Answer(ServerHandler):
    def log_exception(self, exc_info: Any) -> None:
        """Tell of what is a fault of ours; that a client does not read its answer is none."""
        if not issubclass(exc_info[0], OSError):
            log.error("metrics: a request could not be answered", exc_info=exc_info)


def _family(host: str, port: int) -> socket.AddressFamily:
    """Return IPv4 where a host has such an address, else what it has; OSError where it has none."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    families = [family for family, *_ in found]
    return socket.AF_INET if socket.AF_INET in families else families[0]
