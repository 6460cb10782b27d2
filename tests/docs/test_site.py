"""What the site needs, as far as it can be seen without building it (`make docs` does): nav, API pages, lists."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path

import pytest
from tests.docs.blocks import PAGES, ROOT, name_of

import msgbus
from msgbus import archive, dead, testing

NAV = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").partition("\nnav:\n")[2]
API = "\n".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "docs/api").glob("*.md")))
ELSEWHERE = {"msgbus.Depends"}
"""Of another package."""


def test_the_nav_names_every_page_once() -> None:
    named = [page for page in re.findall(r"([\w/.-]+\.md)$", NAV, re.MULTILINE) if page != "index.md"]
    there = {page.relative_to(ROOT / "docs").as_posix() for page in PAGES if page.is_relative_to(ROOT / "docs")}
    assert sorted(named) == sorted(there | {"files/examples.md"})


def test_the_api_has_every_public_name() -> None:
    public = {f"{module.__name__}.{name}" for module in (msgbus, testing) for name in module.__all__} - ELSEWHERE
    named = set(re.findall(r"^::: ([\w.]+)$", API, re.MULTILINE))
    assert public <= named
    assert {name for name in named if name.startswith("msgbus.dead.")} <= {f"msgbus.dead.{n}" for n in dead.__all__}
    assert {name for name in named if "archive" in name} <= {f"msgbus.archive.{n}" for n in archive.__all__}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_a_list_has_an_empty_line_before_it(page: Path) -> None:
    """GitHub does without, the site does not."""
    prose = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    lines = prose.splitlines()
    glued = [line for before, line in pairwise(lines) if line.startswith("- ") and re.match(r"[^\s\-#|<]", before)]
    assert not glued
