"""How an install goes: only what is missing, under a file lock, and with the reason if it can't be done."""

import contextlib
import fcntl
import os
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

from tests.servers.errors import UnavailableError

BASE = Path(os.environ.get("MSGBUS_TEST_SERVERS_DIR") or Path(__file__).parents[2] / ".servers").resolve()
INSTALL_SECONDS = 900.0


class Need(Protocol):
    """Something to install. `lock` is the file whose lock keeps two installs from meeting."""

    @property
    def label(self) -> str: ...
    @property
    def lock(self) -> Path: ...
    def present(self) -> bool: ...
    def install(self) -> None: ...


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Holds the lock of `path` against other threads and processes, at most until this process ends."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def ensure(needs: Sequence[Need]) -> None:
    """Installs what is missing, in the order given; raises UnavailableError with the reason."""
    for need in needs:
        if need.present():
            continue
        with locked(need.lock):
            if not need.present():  # someone else may have installed it while we waited
                need.install()
                if not need.present():
                    raise UnavailableError(f"{need.label}: the install said nothing is wrong, but it is not there")


def run(label: str, command: Sequence[str], env: dict[str, str] | None = None) -> None:
    """Runs one step of an install; raises UnavailableError with the end of what it printed."""
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=INSTALL_SECONDS,
            env={**os.environ, **(env or {})},
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UnavailableError(f"{label} can't be installed: {error}") from error
    if done.returncode:
        tail = " | ".join(line for line in done.stdout.splitlines()[-4:] if line.strip())
        what = " ".join(command[:6])
        raise UnavailableError(f"{label} can't be installed: `{what} ...` ended with {done.returncode}: {tail}")
