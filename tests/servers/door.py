"""The door through which the workers of `pytest -n` get the servers of the process that hands out the tests.

A server starts when the first worker asks for it, and once for all of them; what nobody asks for does not start.
"""

import contextlib
import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Mapping
from multiprocessing.connection import Client, Connection, Listener

from tests.servers.catalog import definition
from tests.servers.errors import ServerError
from tests.servers.handle import Handle

PLACE = "MSGBUS_TEST_DOOR"
"""The environment variable that tells a worker where the door is."""


class Shared(Handle):
    """Started by the process that hands out the tests, and ended by it."""


class Door:
    """Open until it is closed; `get` starts a server and returns its handle, or raises ServerError."""

    def __init__(self, get: Callable[[str], Handle]) -> None:
        self._get = get
        self._folder = tempfile.mkdtemp(prefix="msgbus-door-")  # nobody else may look into it
        self.place = os.path.join(self._folder, "door")
        self._listener = Listener(self.place, "AF_UNIX")
        threading.Thread(target=self._run, name="test-servers-door", daemon=True).start()

    def _run(self) -> None:
        with contextlib.suppress(OSError):  # closed
            while True:
                threading.Thread(target=self._answer, args=[self._listener.accept()], daemon=True).start()

    def _answer(self, asking: "Connection[object, str]") -> None:
        with asking, contextlib.suppress(EOFError, OSError):
            try:
                asking.send(self._get(asking.recv()).variables)
            except ServerError as error:
                asking.send(error)

    def close(self) -> None:
        """Nobody gets in any more."""
        self._listener.close()
        shutil.rmtree(self._folder, ignore_errors=True)


def ask(place: str, name: str) -> Shared:
    """In a worker: the server of this name, when it is ready. Raises the ServerError of its start."""
    with Client(place, "AF_UNIX") as door:
        door.send(name)
        said: Mapping[str, str] | ServerError = door.recv()
    if isinstance(said, ServerError):
        raise said
    kind = definition(name)
    return Shared(kind, {role: said[each.variable] for role, each in kind.endpoints.items() if each.variable in said})
