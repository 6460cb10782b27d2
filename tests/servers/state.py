"""Servers started on the command line: one of each kind, in `.servers/run/NAME`, found by state.json."""

import json
from pathlib import Path

from tests.servers.install import BASE, locked
from tests.servers.instance import Server
from tests.servers.model import Definition, Place
from tests.servers.net import free_ports
from tests.servers.process import Process


def _file(definition: Definition) -> Path:
    return BASE / "run" / definition.name / "state.json"


def _new(definition: Definition) -> Server:
    return Server(definition, Place(_file(definition).parent, free_ports(definition.ports)), linger=True)


def load(definition: Definition) -> Server | None:
    """The instance that was started before, running or not, or None."""
    file = _file(definition)
    if not file.exists():
        return None
    state = json.loads(file.read_text())
    found = Server(definition, Place(file.parent, state["ports"]), linger=True)
    found.process = Process(state["pid"], state["guard"], state["born"])
    return found


def start(definition: Definition) -> Server:
    """Starts the instance, or does nothing if it runs."""
    with locked(BASE / "locks" / f"run-{definition.name}"):
        instance = load(definition) or _new(definition)
        instance.start()
        save(instance)
    return instance


def save(instance: Server) -> None:
    """Writes down what `load` needs."""
    process = instance.process
    if process is not None:
        state = {
            "ports": dict(instance.place.ports),
            "pid": process.pid,
            "guard": process.guard,
            "born": process.born,
        }
        _file(instance.definition).write_text(json.dumps(state))
