"""Every code block of every page is tried, or says why it is not."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.docs.blocks import MARKS, PAGES, ROOT, Block, blocks_of, name_of
from tests.docs.reader import STAND_INS, Reader
from tests.servers import Handle

BLOCKS = [block for page in PAGES for block in blocks_of(page)]
NEEDY = {block.page for block in BLOCKS if block.needs and "not run" not in block.marks}
PLAIN = [page for page in PAGES if any(not block.needs for block in blocks_of(page))]


@pytest.mark.parametrize("page", PLAIN, ids=name_of)
def test_a_page_does_what_it_says(page: Path, tmp_path: Path) -> None:
    Reader(tmp_path, {}).read(page)


@pytest.mark.timeout(180)
@pytest.mark.parametrize("page", sorted(NEEDY), ids=name_of)
def test_a_page_does_what_it_says_beside_its_servers(
    page: Path, tmp_path: Path, rabbitmq: Handle, activemq: Handle, ministack: Handle
) -> None:
    running = {"rabbitmq": rabbitmq, "activemq": activemq, "ministack": ministack}
    needed = {name for block in blocks_of(page) for name in block.needs}
    Reader(tmp_path, {name: running[name] for name in needed}).read(page)


@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_marks_are_known_and_reasons_are_given(block: Block) -> None:
    assert block.language, "a block says its language"
    assert block.marks.keys() <= MARKS
    assert len(block.marks.get("not run", "a reason")) > 5
    assert set(block.needs) <= {*STAND_INS, "ministack"}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_no_code_hides_in_indentation(page: Path) -> None:
    """A block by indentation has no language and no mark: nothing would try it."""
    before, fenced, hidden = "", False, []
    for line in page.read_text(encoding="utf-8").splitlines():
        fenced ^= line.startswith("```")
        if line.startswith("    ") and not before and not fenced:
            hidden.append(line)
        before = line
    assert not hidden


# -- the reader itself


def read(folder: Path, text: str) -> None:
    page = folder / "page.md"
    page.write_text(text)
    Reader(folder, {}).read(page)


@pytest.fixture
def _pages_anywhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("tests.docs.blocks.ROOT", tmp_path)


@pytest.mark.usefixtures("_pages_anywhere")
@pytest.mark.parametrize(
    "text",
    [
        "```python\nassert False\n```",
        "```python\n# some.py\nimport warnings\nwarnings.warn('old')\n```",
        "```python\n# test_some.py\ndef test_it() -> None:\n    assert False\n```",
        "```sh\nfalse\necho\n```",
        "```console\n$ echo one\ntwo\n```",
        "```console\n$ echo one\none\n$ echo two\nthree\n```",
        "```json\n{,}\n```",
        "```cobol\nSTOP RUN.\n```",
        "<!-- until: ready -->\n```sh\necho never >&2\n```",
    ],
)
def test_what_fails_is_noticed(text: str, tmp_path: Path) -> None:
    with pytest.raises((AssertionError, ValueError)):
        read(tmp_path, text)


@pytest.mark.usefixtures("_pages_anywhere")
@pytest.mark.parametrize(
    "text",
    [
        "```python\nx = 1\n```\n\n```python\nassert x == 1\n```",
        "```python\n# a.py\nx = 1\n```\n```python\n# b.py\nfrom a import x\n```\n```console\n$ python b.py\n```",
        "```console\n$ echo one two\none …\n```",
        "<!-- not run: it needs a moon -->\n```sh\nfalse\n```",
        "<!-- until: ready -->\n```sh\ntrap 'exit 0' TERM; echo ready >&2; while sleep 0.05; do :; done\n```",
    ],
)
def test_what_works_passes(text: str, tmp_path: Path) -> None:
    read(tmp_path, text)


def test_every_page_is_known() -> None:
    assert ROOT / "docs/tutorial.md" in PAGES
    assert len(BLOCKS) > 40
