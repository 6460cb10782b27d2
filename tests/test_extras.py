"""The extras of the package bring what the sources import, and nothing else; the README lists them."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import pytest

from msgbus.brokers.databases import open_engine
from msgbus.errors import ConfigError

ROOT = Path(__file__).parents[1]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS: dict[str, list[str]] = PROJECT["optional-dependencies"]

WITH_ANOTHER = {"botocore": "aiobotocore", "pydantic-core": "pydantic", "yarl": "aiormq"}
"""Distributions that come with one that an extra names, in the version that it wants."""

BY_THEIR_USERS = {"pytest", "pytest-asyncio"}
"""What runs the conformance suite, which no service imports."""


def distribution(requirement: str) -> str:
    """`aiobotocore>=3.10,<4` is of aiobotocore."""
    return re.split(r"[\[<>=!~; ]", requirement, maxsplit=1)[0].lower()


def imported() -> set[str]:
    """The distributions of everything that a source imports, wherever it does."""
    known, found = packages_distributions(), set()
    for path in (ROOT / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                found.add(node.module.partition(".")[0])
    found -= {"msgbus", *sys.stdlib_module_names}
    return {known[name][0].lower().replace("_", "-") for name in found}


def named(requirements: list[str]) -> set[str]:
    return {distribution(requirement) for requirement in requirements}


def test_what_is_imported_is_named_and_what_is_named_is_imported() -> None:
    of_extras = set().union(*(named(requirements) for name, requirements in EXTRAS.items() if name != "all"))
    wanted = {WITH_ANOTHER.get(name, name) for name in imported() - BY_THEIR_USERS}
    assert named(PROJECT["dependencies"]) | of_extras == wanted


def test_all_is_all_but_what_needs_a_choice() -> None:
    (everything,) = EXTRAS["all"]
    assert set(re.findall(r"[a-z]+", everything)) - {"msgbus"} == EXTRAS.keys() - {"all", "sql"}


def test_the_readme_lists_them() -> None:
    table = (ROOT / "README.md").read_text(encoding="utf-8").partition("| extra | brings |")[2].partition("\n\n")[0]
    assert set(re.findall(r"^\| `([a-z]+)`", table, re.MULTILINE)) == EXTRAS.keys()


def test_pages_name_extras_that_there_are() -> None:
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), *(ROOT / "src").rglob("*.py")]
    found = {
        extra.strip() for page in pages for names in re.findall(r"msgbus\[([a-z, ]+)\]", page.read_text())
        for extra in names.split(",")
    }  # fmt: skip
    assert found <= EXTRAS.keys()
    assert len(found) > 4


_OPEN = "import asyncio; from msgbus import Bus; asyncio.run(Bus({url!r}).__aenter__())"
_SQL = """
from msgbus.brokers.kinesis import KinesisBroker
from msgbus.clock import SystemClock
from msgbus.message import Source
broker = KinesisBroker("kinesis://?leases=postgresql+asyncpg://u:secret@h/d", clock=SystemClock())
broker._lifetime._client = broker
broker._store(Source("topic", "orders", "billing"))
"""

LACKING = {
    "amqp": ("aiormq", _OPEN.format(url="amqp://u:secret@h?client=aio-pika")),
    "avro": ("fastavro", "from msgbus.archive.objects import decode; list(decode(b'Obj\\x01'))"),
    "aws": ("aiobotocore", _OPEN.format(url="sqs://")),
    "cli": ("typer", "from msgbus.cli import main; main()"),
    "sql": ("sqlalchemy", _SQL),
    "stomp": ("stomp", _OPEN.format(url="stomp://u:secret@h?client=stomp.py")),
}
"""What says so where an extra is missing: the module that it brings, and a program that needs it."""

OPTIONAL = {"msgspec", "uvloop"}
"""What makes things faster where it is installed, and nothing else."""


def test_every_extra_is_told_where_it_is_missing() -> None:
    assert LACKING.keys() | OPTIONAL | {"all"} == EXTRAS.keys()


@pytest.mark.parametrize("extra", sorted(LACKING))
def test_a_missing_extra_is_told_in_the_same_words(extra: str) -> None:
    module, program = LACKING[extra]
    program = f"import sys\nsys.modules[{module!r}] = None\n{program}"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode != 0
    last = done.stderr.strip().splitlines()[-1]
    assert f"{module} is missing, install it with: pip install 'msgbus[{extra}]'" in last
    assert "secret" not in last


def test_a_missing_driver_is_told_with_its_name() -> None:
    with pytest.raises(ConfigError, match=r"leases=.*: asyncmy is missing, install it with: pip install asyncmy"):
        open_engine("mysql+asyncmy://u:secret@h/d")
