"""The code blocks of a page of Markdown, and the marks that say how each is tried.

A mark is a comment on a line of its own right above the block; readers of the rendered page don't see it.

| mark | means |
|---|---|
| `<!-- not run: WHY -->` | nothing runs it, for that reason |
| `<!-- needs: rabbitmq ministack -->` | it is run beside these servers of tests/servers |
| `<!-- in: repository -->` | it is run in the repository's folder, not in the page's own |
| `<!-- until: TEXT -->` | it runs until it prints TEXT, then it is sent SIGTERM and must end well |
| `<!-- ends: TEXT -->` | it says TEXT when it was sent SIGTERM, and may then end by that signal |
| `<!-- file: NAME -->` | it is the file of this name, where the language has no place to say it |
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md")))
MARKS = frozenset({"not run", "needs", "in", "until", "ends", "file"})

_BLOCK = re.compile(
    r"(?P<marks>(?:^<!-- [a-z ]+: .*? -->\n)*)^```(?P<language>\S*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL
)
_MARK = re.compile(r"^<!-- ([a-z ]+): (.*?) -->$", re.MULTILINE)
_NAME = re.compile(r"# ([\w/.-]+\.\w+)\n")


@dataclass(frozen=True)
class Block:
    """One code block: where it stands, its language, what is in it, and its marks by name."""

    page: Path
    line: int
    language: str
    text: str
    marks: Mapping[str, str]

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    @property
    def file(self) -> str | None:
        """The file that it is: by its mark, or by its first line, `# NAME`."""
        if "file" in self.marks:
            return self.marks["file"]
        named = _NAME.match(self.text)
        return named.group(1) if named else None

    @property
    def needs(self) -> tuple[str, ...]:
        """The servers that it is run beside."""
        return tuple(self.marks.get("needs", "").split())


def blocks_of(page: Path) -> Iterator[Block]:
    """All blocks of a page, from the top."""
    text = page.read_text(encoding="utf-8")
    for found in _BLOCK.finditer(text):
        line = text.count("\n", 0, found.start("language")) + 1
        marks = dict(_MARK.findall(found["marks"]))
        yield Block(page, line, found["language"], found["text"], marks)


def name_of(page: Path) -> str:
    """As a test is named."""
    return str(page.relative_to(ROOT))
