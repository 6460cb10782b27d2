"""docs/reference/logging.md has every line that msgbus can log, under its logger, with its level."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from typing import TypeGuard

from tests.docs.blocks import ROOT

PAGE = (ROOT / "docs/reference/logging.md").read_text(encoding="utf-8")
LEVELS = {"debug", "info", "warning", "error", "exception", "critical"}

Line = tuple[str, str, str]  # logger, level, text


def logged() -> Iterator[Line]:
    """Of all sources."""
    for path in sorted((ROOT / "src").rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        named = re.search(r'^log = logging.getLogger\("([a-z.]+)"\)', text, re.MULTILINE)
        for call in ast.walk(ast.parse(text)):
            if isinstance(call, ast.Call) and (line := said(call)):
                assert named, f"{path}: give its logger a name"
                yield named.group(1), *line


def said(call: ast.Call) -> tuple[str, str] | None:
    """(level, text) of a call of the module's `log`."""
    match call:
        case ast.Call(ast.Attribute(ast.Name("log"), "log"), [level, ast.Constant(str(text)), *_]):
            return " or ".join(each.attr.lower() for each in ast.walk(level) if _is_level(each)), text
        case ast.Call(ast.Attribute(ast.Name("log"), level), [ast.Constant(str(text)), *_]) if level in LEVELS:
            return "error" if level == "exception" else level, text
    return None


def _is_level(node: ast.AST) -> TypeGuard[ast.Attribute]:
    return isinstance(node, ast.Attribute) and node.attr.lower() in LEVELS


def on_the_page() -> Iterator[Line]:
    """Rows such as "| `text` | level | meaning |" below a heading such as "## `msgbus.link`"."""
    logger = ""
    for line in PAGE.splitlines():
        if heading := re.match(r"## `([a-z.]+)`", line):
            logger = heading.group(1)
        if row := re.match(r"\| `(.+?)` \| (\w+(?: or \w+)?) \| \S", line):
            yield logger, row.group(2), row.group(1)


def test_the_page_has_every_line_and_no_other() -> None:
    assert len(set(logged())) > 50
    assert sorted(set(on_the_page())) == sorted(set(logged()))
