"""Imports run one way (DESIGN section 4), nothing optional is loaded, and every public name is documented."""

from __future__ import annotations

import ast
import importlib
import inspect
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

SRC = Path(__file__).parents[1] / "src"
SEAM = {"message", "errors", "headers", "clock", "broker", "backoff"}
"""What a broker may import beside its own helpers."""

LAYERS = [
    {"message", "errors", "clock", "headers", "backoff", "lanes"},
    {"broker"},
    {"brokers"},
    {"codecs", "registry"},
    {"topic", "options", "config"},
    {"envelope"},
    {"handlers"},
    {"publishing", "router"},
    {"consuming"},
    {"calling"},
    {"wiring"},
    {"bus", "*package*"},
    {"outbox", "inbox", "observability", "dead", "archive"},
    {"testing"},
    {"cli"},
]
"""From the bottom: what lies in one row may import its own row and those above it in this list."""

OPTIONAL = [
    "aiobotocore",
    "botocore",
    "boto3",
    "aiohttp",
    "aio_pika",
    "aiormq",
    "pamqp",
    "stompman",
    "stomp",
    "faststream",
    "taskiq",
    "msgspec",
    "fastavro",
    "google.protobuf",
    "sqlalchemy",
    "opentelemetry",
    "typer",
    "rich",
    "uvloop",
    "watchfiles",
    "hypothesis",
    "pytest",
    "msgbus.testing",
    "msgbus.cli",
    "msgbus.brokers.memory",
    "msgbus.brokers.aws",
]


def modules() -> dict[str, Path]:
    """Every module of the package by its dotted name."""
    found = {}
    for path in sorted((SRC / "msgbus").rglob("*.py")):
        parts = path.relative_to(SRC).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@cache
def tree_of(path: Path) -> ast.Module:
    """A parsed file."""
    return ast.parse(path.read_text())


@cache
def imports(name: str, *, later: bool = False) -> frozenset[str]:
    """The modules of msgbus that a module imports when it is imported itself; `later`: and in its functions."""
    known = modules()
    found = set()
    nodes = ast.walk(tree_of(known[name])) if later else _at_import(tree_of(known[name]))
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {
                f"{node.module}.{alias.name}" if f"{node.module}.{alias.name}" in known else node.module
                for alias in node.names
            }
    return frozenset(found & set(known) - {name})


def _at_import(tree: ast.AST) -> Iterator[ast.AST]:
    """Nodes that run at import: not the bodies of functions."""
    for node in ast.iter_child_nodes(tree):
        yield node
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            yield from _at_import(node)


def layer(name: str) -> int:
    """How far up a module lies; KeyError for one whose room has no place in the order yet."""
    top = name.split(".")[1] if "." in name else "*package*"
    return {room: row for row, rooms in enumerate(LAYERS) for room in rooms}[top]


def test_every_module_is_found() -> None:
    assert {"msgbus", "msgbus.bus", "msgbus.brokers.memory.queue"} <= set(modules())


@pytest.mark.parametrize("name", [name for name in modules() if name != "msgbus"])
def test_imports_go_down(name: str) -> None:
    upwards = [other for other in imports(name) if layer(other) > layer(name)]
    assert not upwards, f"{name} imports {upwards}, which lie above it"


@pytest.mark.parametrize("name", [name for name in modules() if name.startswith("msgbus.brokers.")])
def test_a_broker_imports_the_seam_and_its_own_helpers(name: str) -> None:
    own = ".".join(name.split(".")[:3])
    foreign = [
        other
        for other in imports(name)
        if not (other.startswith(own) or other.removeprefix("msgbus.") in SEAM or _is_shared_helper(other))
    ]
    assert not foreign, f"{name} imports {foreign}"


def _is_shared_helper(name: str) -> bool:
    """`msgbus.brokers.mailbox` and its like, what brokers that push share, and those on AWS: SQS for dead letters."""
    parts = name.split(".")
    helpers = {
        "databases",
        "hiding",
        "mailbox",
        "naming",
        "plan",
        "splitting",
        "urls",
        "wakeup",
        "watermark",
        "mq",
        "aws",
        "sqs",
    }
    return parts[:2] == ["msgbus", "brokers"] and len(parts) > 2 and parts[2] in helpers


def test_there_is_no_cycle() -> None:
    known, done = modules(), set()

    def visit(name: str, way: tuple[str, ...]) -> None:
        assert name not in way, " -> ".join((*way[way.index(name) :], name))
        if name in done:
            return
        for other in imports(name, later=True):  # an import in a function hides a circle, it does not cut it
            visit(other, (*way, name))
        done.add(name)

    for name in known:
        visit(name, ())


@pytest.mark.parametrize("name", modules())
def test_no_detour_around_a_cycle(name: str) -> None:
    names = {node.id for node in ast.walk(tree_of(modules()[name])) if isinstance(node, ast.Name)}
    assert "TYPE_CHECKING" not in names


def test_importing_msgbus_loads_nothing_optional() -> None:
    code = "import sys, msgbus; print(*sorted(sys.modules), sep='\\n')"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(ran.stdout.split())
    assert "msgbus.bus" in loaded
    assert not loaded.intersection(OPTIONAL)


def test_opening_the_embedded_broker_loads_no_client() -> None:
    code = """
import asyncio, sys, msgbus
async def main():
    async with msgbus.Bus("memory://"):
        pass
asyncio.run(main())
print(*sorted(sys.modules), sep="\\n")
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(ran.stdout.split())
    assert "msgbus.brokers.memory" in loaded
    assert loaded.intersection(OPTIONAL) == {"msgbus.brokers.memory"}


def test_every_public_name_of_the_package_is_there_and_sorted() -> None:
    package = importlib.import_module("msgbus")
    assert list(package.__all__) == sorted(package.__all__, key=str)
    assert all(hasattr(package, name) for name in package.__all__)


@pytest.mark.parametrize("name", modules())
def test_every_public_name_is_documented(name: str) -> None:
    tree = tree_of(modules()[name])
    missing = list(_undocumented(tree, name))
    assert not missing, f"without a docstring: {missing}"


def _undocumented(tree: ast.Module, name: str) -> Iterator[str]:
    if ast.get_docstring(tree) is None:
        yield name
    for node in tree.body:
        if not isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)) or node.name.startswith("_"):
            continue
        if ast.get_docstring(node) is None:
            yield f"{name}.{node.name}"


@pytest.mark.parametrize("name", importlib.import_module("msgbus").__all__)
def test_public_methods_of_public_classes_are_documented(name: str) -> None:
    thing: Any = getattr(importlib.import_module("msgbus"), name)
    if not inspect.isclass(thing) or not thing.__module__.startswith("msgbus"):
        return
    for method, function in vars(thing).items():
        if method.startswith("_") or not (inspect.isfunction(function) or isinstance(function, property)):
            continue
        assert inspect.getdoc(getattr(thing, method)), f"{name}.{method}"


def test_the_first_room_is_small() -> None:
    """What a service author or a broker author reads first."""
    here = [path.name for path in (SRC / "msgbus").glob("*.py")]
    assert len(here) <= 15, sorted(here)


def test_files_stay_readable() -> None:
    too_long = {name: lines for name, path in modules().items() if (lines := path.read_text().count("\n")) > 300}
    assert not too_long


def test_functions_stay_readable() -> None:
    lengths = sorted(
        (node.end_lineno or node.lineno) - node.lineno + 1
        for path in modules().values()
        for node in ast.walk(tree_of(path))
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
    )
    assert lengths[len(lengths) * 9 // 10] <= 15
