"""README, tutorial, how-tos and examples, as their reader does them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.docs.blocks import ROOT, blocks_of
from tests.docs.reader import Reader
from tests.newcomer.environment import Fresh
from tests.servers import Handle

PAGES = (ROOT / "README.md", ROOT / "docs/tutorial.md", *sorted((ROOT / "docs/how-to").glob("*.md")))

EXAMPLES = sorted((ROOT / "examples").glob("*.py"))


def read(fresh: Fresh, running: Mapping[str, Handle], page: Path) -> str:
    """Every block of a page that can be run."""
    needed = {name: running[name] for block in blocks_of(page) for name in block.needs}
    with TemporaryDirectory() as folder:
        Reader(Path(folder), needed, fresh.environment()).read(page)
    return page.name


def example(fresh: Fresh, running: Mapping[str, Handle], path: Path) -> str:
    """It runs; what it prints is compared by tests/test_examples.py."""
    url = {"MSGBUS_URL": running["rabbitmq"].url} if path.stem == "14_rabbitmq" else {}
    assert fresh.run("python", str(path), variables={**running["ministack"].env, **url})
    return path.name
