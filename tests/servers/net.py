"""Small checks over the loopback interface: free ports, open ports, health requests."""

import http.client
import random
import socket
from collections.abc import Iterable

LOOPBACK = "127.0.0.1"
# Below the range that Linux gives to outgoing connections: one of those may be taken while a server is down.
_PORTS = range(20_000, 32_000)
_random = random.SystemRandom()  # parallel test processes have one seed in common
_given: set[int] = set()


def free_ports(roles: Iterable[str]) -> dict[str, int]:
    """One free port for each role. A port is given once in a process, so parallel starts don't meet."""
    return {role: _free_port() for role in roles}


def _free_port() -> int:
    while True:
        port = _random.choice(_PORTS)
        if port in _given:
            continue
        _given.add(port)
        with socket.socket() as probe:
            try:
                probe.bind(("", port))  # free on every address
            except OSError:
                continue
            return port


def listening(port: int) -> bool:
    """Whether someone accepts connections on the port now."""
    try:
        with socket.create_connection((LOOPBACK, port), timeout=1.0):
            return True
    except OSError:
        return False


def healthy(port: int, path: str) -> bool:
    """Whether `GET path` is answered with a status below 400 within two seconds."""
    connection = http.client.HTTPConnection(LOOPBACK, port, timeout=2.0)
    try:
        connection.request("GET", path)
        return connection.getresponse().status < 400
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
