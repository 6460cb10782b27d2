"""One private instance of a server: started, watched until it is ready, stopped, killed, started again."""

import contextlib
import os
import secrets
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.servers.errors import ServerError, StartError, UnavailableError
from tests.servers.handle import Handle
from tests.servers.install import ensure
from tests.servers.model import Definition, Place
from tests.servers.net import free_ports
from tests.servers.process import Process

GRACE = 20.0  # seconds from a clean stop to SIGKILL
_POLL = 0.03  # seconds between two looks at whether it is ready
_LOG_LINES = 25


class Server(Handle):
    """A server of our own. It dies with this process, unless `linger`: then it stays until it is closed."""

    def __init__(self, definition: Definition, place: Place, *, linger: bool = False) -> None:
        urls = {kind: each.template.format(**place.ports) for kind, each in definition.endpoints.items()}
        super().__init__(definition, urls)
        self.place = place
        self.process: Process | None = None
        self._linger = linger

    @classmethod
    def new(cls, definition: Definition) -> "Server":
        """An instance with free ports and a temporary folder; both are used from `start` on."""
        name = f"msgbus-{definition.name}-{secrets.token_hex(6)}"
        return cls(definition, Place(Path(tempfile.gettempdir()) / name, free_ports(definition.ports)))

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.alive

    @property
    def log(self) -> str:
        """The end of what the server printed."""
        if not self.place.log.exists():
            return "(no log)"
        return "\n".join(self.place.log.read_text(errors="replace").splitlines()[-_LOG_LINES:])

    def start(self) -> None:
        if self.alive:
            return
        if sys.platform != "linux":
            raise UnavailableError(f"{self.name}: the test servers need Linux; set {self._variable} instead")
        ensure(self.definition.needs)
        self.place.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.definition.prepare(self.place)
        try:
            self.process = Process.start(self._plan(), self._environment())
        except OSError as error:
            raise StartError(f"{self.name} can't be started: {error}") from error
        self._await_ready()

    def _plan(self) -> dict[str, Any]:
        return {
            "command": self.definition.command(self.place),
            "folder": str(self.place.folder),
            "log": str(self.place.log),
            "linger": self._linger,
            "user": self.definition.user if os.geteuid() == 0 else None,
            "end_signal": self.definition.end_signal,
            "grace": GRACE,
            "remove": not self._linger,
        }

    def _environment(self) -> dict[str, str]:
        """Little of ours goes in: somebody's AWS_ or RABBITMQ_ variables must not change what a test sees."""
        ours = {key: os.environ[key] for key in ("PATH", "JAVA_HOME", "TZ") if key in os.environ}
        folder = str(self.place.folder)
        return {
            **ours,
            "LANG": "C.UTF-8",
            "HOME": folder,
            "TMPDIR": folder,
            **self.definition.environment(self.place),
        }

    def _await_ready(self) -> None:
        deadline = time.monotonic() + self.definition.deadline
        while not self.definition.ready(self.place):
            if not self.alive:
                raise StartError(f"{self.name} ended while it started; its log:\n{self.log}")
            if time.monotonic() > deadline:
                self.kill()
                seconds = self.definition.deadline
                raise StartError(f"{self.name} was not ready in {seconds} s; its log:\n{self.log}")
            time.sleep(_POLL)

    def _running(self) -> Process:
        if self.process is None or not self.process.alive:
            raise ServerError(f"{self.name} does not run")
        return self.process

    def stop(self) -> None:
        if self.alive:
            self._running().stop(GRACE + 10)

    def kill(self) -> None:
        if self.alive:
            process = self._running()
            process.signal(signal.SIGKILL)
            process.wait(60)  # nothing holds it up but a machine that has no time for it

    def restart(self) -> None:
        self.stop()
        self.start()

    def freeze(self) -> None:
        self._running().signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._running().signal(signal.SIGCONT)

    def close(self) -> None:
        if self.alive:
            process = self._running()
            process.signal(self.definition.end_signal)
            process.signal(signal.SIGCONT)
            with contextlib.suppress(TimeoutError):
                process.wait(3)
            self.kill()
        if os.environ.get("MSGBUS_TEST_KEEP_FOLDERS") != "1":
            shutil.rmtree(self.place.folder, ignore_errors=True)
