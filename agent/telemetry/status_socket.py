"""What the agent says of itself to whoever asks on this machine: one JSON object over a Unix socket.

It needs neither broker nor port, and the file system says who may ask.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from adapters.files.strict_json import loads
from agent.base.codec import JSON, dumps
from agent.base.data_dir import in_use
from agent.base.errors import NoAnswer, StoreError

log = logging.getLogger(__name__)

SOCKET = "status.sock"
"""In the data folder."""
_CHECK_S = 0.2
_SEND_S = 2.0
_ASK_S = 5.0
_MOST_BYTES = 16_000_000


@contextmanager
def status_server(data: Path, snapshot: Callable[[], JSON]) -> Iterator[None]:
    """Answer each connection to ``status.sock`` with one JSON object, in a thread of its own.

    Args:
        data: the data folder, which this process has locked.
        snapshot: returns the object; called in that thread.

    Raises:
        StoreError: the socket cannot be made there.
    """
    stop = threading.Event()
    try:
        listening = _listen(data)
    except OSError as error:
        raise StoreError(
            f"{data / SOCKET}: cannot be made: {error.strerror}: look whether the disk is there and has room"
        ) from error
    thread = threading.Thread(
        target=_serve, args=(listening, snapshot, stop), name="local-status", daemon=True
    )
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(_SEND_S + 2 * _CHECK_S)
        listening.close()
        (data / SOCKET).unlink(missing_ok=True)


def ask(data: Path) -> JSON:
    """Return what the agent with this data folder says of itself.

    Raises:
        NoAnswer: none runs, it does not answer, or this user may not ask.
    """
    try:
        with socket.socket(socket.AF_UNIX) as connection, _reachable(data) as address:
            connection.settimeout(_ASK_S)
            connection.connect(address)
            found: JSON = loads(_everything(connection))
            return found
    except PermissionError as error:
        raise NoAnswer(
            f"{data / SOCKET}: this user may not ask: be the user of the agent: sudo -u mekiki mekiki status"
        ) from error
    except (TimeoutError, ValueError) as error:
        raise NoAnswer(
            f"{data / SOCKET}: the agent does not answer within {_ASK_S:.0f} s: look into its journal"
        ) from error
    except OSError as error:
        if in_use(data):
            raise NoAnswer(
                f"{data}: in use, and nothing answers at {SOCKET}: the agent is just starting or ending,"
                " or another command such as commission is at work: ask again"
            ) from error
        raise NoAnswer(
            f"{data}: no agent runs with this data folder: start it, or name its config with --config"
        ) from error


@contextmanager
def _reachable(data: Path) -> Iterator[str]:
    """Yield an address of the socket that fits into the 107 bytes which a Unix socket's may have."""
    folder = os.open(data, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{folder}/{SOCKET}"
    finally:
        os.close(folder)


def _listen(data: Path) -> socket.socket:
    (data / SOCKET).unlink(missing_ok=True)  # of a run that was killed: the folder is ours alone
    listening = socket.socket(socket.AF_UNIX)
    try:
        with _reachable(data) as address:
            listening.bind(address)
        listening.listen()
        listening.settimeout(_CHECK_S)
    except OSError:
        listening.close()
        raise
    return listening


def _serve(listening: socket.socket, snapshot: Callable[[], JSON], stop: threading.Event) -> None:
    told = ""
    while not stop.is_set():
        try:
            connection, _ = listening.accept()
        except TimeoutError:
            continue
        except OSError as error:  # too many open files: it may pass
            if told != str(error):
                log.warning("%s: %s; it is tried again every second", SOCKET, error.strerror)
            told = str(error)
            stop.wait(1.0)
            continue
        with connection:
            connection.settimeout(_SEND_S)
            try:
                answer = dumps(snapshot()).encode()
            except Exception:  # a bug; nobody who asks may end the agent, nor keep the next from an answer
                log.exception("%s: what it asks for cannot be composed", SOCKET)
                continue
            with suppress(OSError):  # whoever asked has gone, or does not read
                connection.sendall(answer)


def _everything(connection: socket.socket) -> bytes:
    found = bytearray()
    while part := connection.recv(65_536):
        found += part
        if len(found) > _MOST_BYTES:
            raise TimeoutError
    return bytes(found)
