"""Python source that is generated, compiled once, and told apart by its lines when something in it fails.

Only names that `NAME` matches get into the source; everything else is a constant beside it, named by a number.
"""

from __future__ import annotations

import keyword
from collections.abc import Mapping
from itertools import count
from types import TracebackType
from typing import Any

from msgbus.codecs.avro.schema import NAME

_NUMBERS = count()


class Code:
    """Lines of a module, the constants that they use, and what each line is about."""

    def __init__(self, constants: Mapping[str, Any]) -> None:
        self.constants = dict(constants)
        self.lines: list[str] = []
        self.paths: list[str] = []
        self.path = ""
        self.file = f"<avro codec {next(_NUMBERS)}>"

    def add(self, depth: int, *lines: str) -> None:
        """Lines, so deep in blocks."""
        for line in lines:
            self.lines.append("    " * depth + line)
            self.paths.append(self.path)

    def constant(self, value: Any) -> str:
        """The name of a constant."""
        name = f"C{len(self.constants)}"
        self.constants[name] = value
        return name

    def text(self, value: str) -> str:
        """A text, as a literal where it is a name."""
        return f"'{value}'" if NAME.fullmatch(value) else self.constant(value)

    def attribute(self, of: str, name: str) -> str:
        """An attribute of a variable."""
        if NAME.fullmatch(name) and not keyword.iskeyword(name):
            return f"{of}.{name}"
        return f"getattr({of}, {self.constant(name)})"

    def made(self) -> Mapping[str, Any]:
        """What the module defines."""
        names = dict(self.constants)
        exec(compile("\n".join(self.lines), self.file, "exec"), names)  # noqa: S102 - of checked names alone
        return names

    def place(self, error: BaseException) -> tuple[str, int | None]:
        """What the line that failed is about, and the offset that it was at (None where it wrote)."""
        found: tuple[str, int | None] = ("", None)
        trace: TracebackType | None = error.__traceback__
        while trace is not None:
            if trace.tb_frame.f_code.co_filename == self.file:
                found = self.paths[trace.tb_lineno - 1], trace.tb_frame.f_locals.get("p")
            trace = trace.tb_next
        return found
