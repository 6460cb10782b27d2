"""What the pages name is there: files and headings behind links, commands, options, settings, the generated table."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer
from tests.docs.blocks import PAGES, ROOT, name_of

from msgbus.cli.app import app
from msgbus.cli.capabilities import markdown_table
from msgbus.config import Settings

README = (ROOT / "README.md").read_text(encoding="utf-8")
SETTINGS = {f"MSGBUS_{name.upper()}" for name in Settings.model_fields}
TREE = "\n".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "tests").rglob("*.py")))


def test_the_table_of_capabilities_is_the_generated_one() -> None:
    (table,) = re.findall(r"<!-- capabilities -->\n(.*?)\n<!-- /capabilities -->", README, re.DOTALL)
    assert table == markdown_table().strip()


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_link_leads_somewhere(page: Path) -> None:
    astray = [link for link in links_of(page) if not leads_somewhere(page, link)]
    assert not astray


def links_of(page: Path) -> list[str]:
    """All but those to other sites."""
    prose = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    return [link for link in re.findall(r"\]\(([^)\s]+)\)", prose) if "://" not in link]


def leads_somewhere(page: Path, link: str) -> bool:
    """A file or folder, and the heading of a page."""
    path, _, heading = link.partition("#")
    target = page.parent / path if path else page
    return target.exists() and (not heading or heading in headings_of(target))


@cache
def headings_of(page: Path) -> frozenset[str]:
    """As GitHub and the site make anchors of them."""
    found = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return frozenset(re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in found)


def test_a_link_astray_is_noticed(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# One page\n\n[a](#one-page) [b](page.md#two) [c](other.md) [d](https://example.org/)\n")
    assert [link for link in links_of(page) if not leads_somewhere(page, link)] == ["page.md#two", "other.md"]


# -- commands


def spans() -> Iterator[tuple[str, str]]:
    """(page, code) of all code: in prose, in the headings of commands, and the lines of blocks."""
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        prose = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
        for code in re.findall(r"`([^`]+)`|^## (msgbus .+)$", prose, re.MULTILINE):
            yield name_of(page), " ".join("".join(code).split())
        for block in re.findall(r"^```(?:sh|console|dockerfile|yaml)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
            yield from ((name_of(page), line.removeprefix("$ ")) for line in block.splitlines())


def named(pattern: str) -> set[str]:
    return {found for _, code in spans() for found in re.findall(pattern, code)}


COMMANDS = sorted({f"{page}: {code}" for page, code in spans() if re.match(r"(?:MSGBUS_\S+ )*msgbus [a-z-]", code)})


@pytest.mark.parametrize("where", COMMANDS)
def test_a_command_has_its_options(where: str) -> None:
    """Of `msgbus dead redrive --id ID` each part: the commands, and the options of the last one."""
    command: Any = typer.main.get_command(app)
    words = re.sub(r"^.*?\bmsgbus ", "", where).split()
    while hasattr(command, "commands") and words:
        word = words.pop(0)
        if word == "COMMAND" or word.startswith("-"):
            words = [word, *words] if word.startswith("-") else words
            break
        chosen = [command.commands.get(each) for each in word.split("|")]
        assert all(chosen), f"{where}: there is no {word}"
        command = chosen[0]
    known = {option for parameter in command.params for option in parameter.opts} | {"--help"}
    unknown = {word.partition("=")[0].strip("[]") for word in words if word.strip("[").startswith("--")} - known
    assert not unknown, f"{where}: no option {unknown}, there are {sorted(known)}"


def test_a_made_target_is_there() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    assert named(r"^make ([a-z-]+)") <= targets


def test_a_module_that_is_run_is_there() -> None:
    modules = {name for name in named(r"python -m ([a-z_.]+)") if name.partition(".")[0] in ("examples", "benchmarks")}
    assert len(modules) > 1
    for name in modules:
        path = ROOT / name.replace(".", "/")
        assert path.with_suffix(".py").exists() or (path / "__main__.py").exists(), name


def test_a_variable_is_a_setting() -> None:
    unknown = {name for name in named(r"\b(MSGBUS_[A-Z_]+)\b") - SETTINGS if name not in TREE}
    assert not unknown


def test_every_setting_has_its_row() -> None:
    page = (ROOT / "docs/reference/settings.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^\| `(MSGBUS_\w+)`", page, re.MULTILINE)) == SETTINGS
