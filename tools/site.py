"""A hook of MkDocs: pages link to files beside docs/ as they do in the repository, and on the site that works too.

README.md becomes the first page. Any other file that a page links to becomes a page that shows it, a folder one that
lists what is in it.
"""

from __future__ import annotations

import ast
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
FIRST = ROOT / "README.md"

_LINK = re.compile(r"(?<!!)\]\(([^)\s#:]+)(#[^)\s]*)?\)")
_FENCES = re.compile(r"(^```.*?^```$)", re.MULTILINE | re.DOTALL)


def on_files(files: Files, config: Any) -> Files:
    """Add the pages of what lies outside of docs/."""
    files.append(File.generated(config, "index.md", content=with_links(FIRST.read_text(encoding="utf-8"), FIRST)))
    for path in sorted(linked()):
        files.append(File.generated(config, page_of(path), content=shown(path)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Links of a page in docs/; the generated ones have theirs."""
    source = DOCS / page.file.src_uri
    return with_links(markdown, source) if source.exists() else markdown


def page_of(path: Path) -> str:
    """Where the site has a file of the repository, relative to its root."""
    if path == FIRST:
        return "index.md"
    if path.is_relative_to(DOCS) and path.is_file():
        return path.relative_to(DOCS).as_posix()
    return f"files/{path.relative_to(ROOT).as_posix()}.md"


def linked() -> set[Path]:
    """What pages link to beside docs/, and what lies in linked folders."""
    pages = [FIRST, *DOCS.rglob("*.md")]
    found = {target for page in pages for target in targets(page)}
    inside = {path for folder in found if folder.is_dir() for path in listed(folder)}
    return {path for path in found | inside if not (path.is_relative_to(DOCS) and path.is_file()) and path != FIRST}


def targets(page: Path) -> Iterator[Path]:
    """The files and folders that a page links to."""
    for prose in _FENCES.split(page.read_text(encoding="utf-8"))[::2]:
        for link in _LINK.finditer(prose):
            target = (page.parent / link.group(1)).resolve()
            if target.exists():
                yield target


def listed(folder: Path) -> list[Path]:
    """What a reader looks for in a folder."""
    return [path for path in sorted(folder.iterdir()) if path.suffix in (".py", ".md")]


def about(path: Path) -> str:
    """The first line of a module's docstring, or of a page."""
    text = path.read_text(encoding="utf-8")
    whole = (ast.get_docstring(ast.parse(text)) or "") if path.suffix == ".py" else text
    return whole.partition("\n")[0].lstrip("# ")


def with_links(markdown: str, source: Path) -> str:
    """The text with its links from a page of the repository made links from that page of the site."""
    here = os.path.dirname(page_of(source))

    def relinked(link: re.Match[str]) -> str:
        target = (source.parent / link.group(1)).resolve()
        if not target.exists():
            return link.group(0)  # --strict says so
        return f"]({os.path.relpath(page_of(target), here or '.')}{link.group(2) or ''})"

    parts = _FENCES.split(markdown)
    parts[::2] = [_LINK.sub(relinked, prose) for prose in parts[::2]]
    return "".join(parts)


def shown(path: Path) -> str:
    """A page for a file or a folder."""
    name = path.relative_to(ROOT).as_posix()
    if path.is_file():
        return f"# {name}\n\n````python\n{path.read_text(encoding='utf-8')}\n````\n"
    here = Path(page_of(path)).parent
    rows = [f"- [{each.name}]({os.path.relpath(page_of(each), here)}): {about(each)}" for each in listed(path)]
    return f"# {name}\n\n" + "\n".join(rows) + "\n"
