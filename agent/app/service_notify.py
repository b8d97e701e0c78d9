"""What systemd is told of us (sd_notify(3)), over the datagram socket that it names in the environment."""

from __future__ import annotations

import logging
import os
import socket

READY = "READY=1"
ALIVE = "WATCHDOG=1"
STOPPING = "STOPPING=1"

log = logging.getLogger(__name__)


def notify(*facts: str) -> bool:
    """Tell systemd, or whoever plays its part.

    Args:
        facts: such as `READY` or ``STATUS=...``, one line each.

    Returns:
        Whether there was somebody to tell, who took it. One who does not is no reason to stop inspecting.
    """
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return False
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as ours:
            ours.settimeout(1.0)
            ours.connect("\0" + address[1:] if address.startswith("@") else address)
            ours.sendall("\n".join(facts).encode())
    except OSError as error:
        log.warning("systemd: cannot be told at %s: %s", address, error)
        return False
    return True


def watchdog_s() -> float | None:
    """Return after how many seconds without `ALIVE` this process is killed; None where nobody watches it."""
    period_us = os.environ.get("WATCHDOG_USEC", "")
    if not period_us.isdecimal() or os.environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    return int(period_us) / 1e6
