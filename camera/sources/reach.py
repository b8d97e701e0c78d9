"""Why a network camera cannot be opened, as far as its host says it.

FFmpeg knows and would write it to standard error, with pieces of passwords. So the host is asked once more.
"""

from __future__ import annotations

import socket

from camera.core.address import Address

_PORTS = {"rtsp": 554, "rtsps": 322, "http": 80, "https": 443, "rtmp": 1935, "rtmps": 443}


def why_not(address: Address, timeout_s: float) -> str:
    """Return what keeps `address` from being reached; empty where this cannot be told."""
    port = address.port or _PORTS.get(address.scheme)
    if not address.host or port is None or address.scheme not in _PORTS:
        return ""  # a listener, or a protocol without connections
    try:
        with socket.create_connection((address.host, port), timeout_s):
            return f"its host answers at port {port}: check user, password and path"
    except TimeoutError:
        return f"its host does not answer at port {port} within {timeout_s:g} s"
    except socket.gaierror:
        return "the name of its host is not known here"
    except (OSError, UnicodeError) as error:  # a name of a host that is too long is a UnicodeError
        return f"port {port}: {getattr(error, 'strerror', None) or error}"
