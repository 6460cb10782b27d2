"""The words of this package: a definition (data about a kind of server), a place (where one instance is)."""

import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from tests.servers.install import Need

LOOPBACK = "127.0.0.1"


class Keeps(Enum):
    """What of its data a server still has after it was started again on the same folder."""

    NOTHING = "nothing: all is in memory"
    IF_STOPPED = "everything after a clean stop, nothing after a kill"
    ALL = "everything, also after a kill"


@dataclass(frozen=True)
class Place:
    """Where one instance lives: its own folder, and its own ports on 127.0.0.1 by role."""

    folder: Path
    ports: Mapping[str, int]

    @property
    def log(self) -> Path:
        """The file that gets all the server prints."""
        return self.folder / "server.log"


@dataclass(frozen=True)
class Endpoint:
    """One way in: `template` gets the ports by role; `variable` names a server that already runs."""

    template: str
    variable: str


def _nothing(_: Place) -> None:
    """No preparation."""


def _no_env(_: Place) -> dict[str, str]:
    return {}


@dataclass(frozen=True, kw_only=True)
class Definition:
    """A kind of server.

    `endpoints`: by kind; the first is the main one. `client_env`: what a client needs in its environment,
    templates over `{url}`. `prepare` runs before every start, so it must keep existing data.
    `ready` answers at once. `deadline` is in seconds. `user`: whom to run as when we are root.
    `end_signal` goes to an instance whose data nobody needs any more.
    """

    name: str
    title: str
    needs: tuple[Need, ...]
    ports: tuple[str, ...]
    endpoints: Mapping[str, Endpoint]
    command: Callable[[Place], list[str]]
    ready: Callable[[Place], bool]
    environment: Callable[[Place], dict[str, str]] = _no_env
    prepare: Callable[[Place], None] = _nothing
    client_env: Mapping[str, str] = field(default_factory=dict)
    deadline: float = 60.0
    keeps: Keeps = Keeps.NOTHING
    user: str | None = None
    end_signal: signal.Signals = signal.SIGKILL

    @property
    def main(self) -> str:
        """The kind of the main endpoint."""
        return next(iter(self.endpoints))
