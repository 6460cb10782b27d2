"""PostgreSQL from the programs inside the PyPI package pgserver (its Python side is not used: as root it would
create an account on the machine); where there is none for this Python, from Debian's package."""

import os
import pwd
import signal
import socket
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.servers.errors import StartError
from tests.servers.model import LOOPBACK, Definition, Endpoint, Keeps, Place
from tests.servers.packages import Debian, PyPI

_pgserver = PyPI("postgres", ("pgserver==0.1.4",))
_debian = Debian("postgresql", "/usr/lib/postgresql")
_NEED: PyPI | Debian = _pgserver if sys.version_info < (3, 13) else _debian  # it has no wheel for later ones
_URL = "postgresql://postgres@127.0.0.1:{postgres}/postgres"
_USER = "nobody"  # PostgreSQL refuses to run as root


def _program(name: str) -> str:
    if _NEED is _pgserver:
        return str(_pgserver.package("pgserver") / "pginstall" / "bin" / name)
    return str(max(Path(_debian.probe).glob(f"*/bin/{name}"), default=Path(name)))


def _prepare(place: Place) -> None:
    """Makes the data folder once. As root, it belongs to the account that the server will run as."""
    data = place.folder / "data"
    if data.exists():
        return
    identity: dict[str, Any] = {}
    if os.geteuid() == 0:
        account = pwd.getpwnam(_USER)
        os.chown(place.folder, account.pw_uid, account.pw_gid)
        identity = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
    _initdb(data, identity)


def _initdb(data: Path, identity: dict[str, Any]) -> None:
    command = [_program("initdb"), "-D", str(data), "-U", "postgres", "--auth=trust", "--no-sync"]
    try:
        done = subprocess.run(
            [*command, "--encoding=UTF8", "--locale=C"],
            cwd=data.parent,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            env={"PATH": "/usr/bin:/bin"},
            **identity,
        )
    except OSError as error:
        raise StartError(f"postgres: the account {_USER} can't run {command[0]}: {error}") from error
    if done.returncode:
        raise StartError(f"postgres: initdb failed: {done.stderr.strip()[-500:]}")


def _ready(place: Place) -> bool:
    """Whether it lets a client in: the port is open earlier, and answers "starting up" until then."""
    fields = b"user\0postgres\0database\0postgres\0\0"
    message = struct.pack("!ii", 8 + len(fields), 3 << 16) + fields
    try:
        with socket.create_connection((LOOPBACK, place.ports["postgres"]), timeout=2.0) as connection:
            connection.sendall(message)
            return connection.recv(1) == b"R"
    except OSError:
        return False


def _command(place: Place) -> list[str]:
    settings = {
        "listen_addresses": LOOPBACK,
        "port": str(place.ports["postgres"]),
        "unix_socket_directories": "",
        "dynamic_shared_memory_type": "mmap",  # in the data folder: a killed one leaves nothing in /dev/shm
    }
    options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
    return [_program("postgres"), "-D", str(place.folder / "data"), *options]


POSTGRES = Definition(
    name="postgres",
    title="PostgreSQL",
    needs=(_NEED,),
    ports=("postgres",),
    endpoints={"postgres": Endpoint(_URL, "MSGBUS_TEST_POSTGRES_URL")},
    command=_command,
    prepare=_prepare,
    ready=_ready,
    keeps=Keeps.ALL,
    user=_USER,
    end_signal=signal.SIGQUIT,  # ends at once, and still gives its shared memory back
)
