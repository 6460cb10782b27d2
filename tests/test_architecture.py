"""docs/architecture.md names every file of both ways and none that is not there; a room's docstring is its map."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src/msgbus"
PAGE = (ROOT / "docs/architecture.md").read_text()
ROOMS = ["publishing", "consuming", "handlers", "envelope"]


def files_of(room: str) -> set[str]:
    return {path.stem for path in (PACKAGE / room).glob("*.py")} - {"__init__"}


def test_every_file_that_the_page_names_is_there() -> None:
    named = set(re.findall(r"`((?:[a-z]+/)*[a-z]+\.py)`", PAGE))
    assert len(named) > 20
    missing = [name for name in named if not ((PACKAGE / name).exists() or (ROOT / name).exists())]
    assert not missing


@pytest.mark.parametrize("room", ROOMS)
def test_the_walk_names_every_file_of_a_room(room: str) -> None:
    walk = PAGE[PAGE.index("## A message there") :]
    unnamed = {stem for stem in files_of(room) if f"`{room}/{stem}.py`" not in walk}
    assert not unnamed


@pytest.mark.parametrize("room", ROOMS)
def test_a_rooms_docstring_is_a_map_of_its_files(room: str) -> None:
    text = ast.get_docstring(ast.parse((PACKAGE / room / "__init__.py").read_text())) or ""
    assert set(re.findall(r"`([a-z]+)`", text)) == files_of(room)


@pytest.mark.parametrize(("begin", "end"), [("## A message there", "## And back"), ("## And back", "### When")])
def test_the_walk_never_goes_back(begin: str, end: str) -> None:
    """A newcomer reads each file once, in this order."""
    met = re.findall(r"`([a-z/]+\.py)`", PAGE[PAGE.index(begin) : PAGE.index(end)])
    assert len(met) == len(set(met))
