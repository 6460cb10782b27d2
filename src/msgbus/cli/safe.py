"""Text of strangers, made safe to look at: for a terminal, for a log, and as JSON for either.

A terminal obeys escape sequences and control characters, C1 as well as C0; whoever reads a log believes what begins
a line; and marks that turn the direction of text hide what it says. All of them are written out instead.
"""

from __future__ import annotations

import json
import re

_UNSEEN = re.compile(r"[^\x20-\x7e]")  # looked at one by one
_SPACES = "\u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u202f\u205f\u3000"


def visible(text: str) -> str:
    """For a terminal: line feeds and tabs stay, anything else that is not printed is written as in a Python string."""
    return _UNSEEN.sub(_line_kept, text.replace("\r\n", "\n"))


def on_one_line(text: str) -> str:
    """For a line of a log, or a cell: line feeds and tabs are written out too."""
    return text if text.isprintable() else _UNSEEN.sub(_written_out, text)


def visible_json(value: object, indent: int | None = None) -> str:
    """JSON that every parser reads, and that does nothing to a terminal. What is no JSON becomes its text."""
    text = _dumped(value, indent)
    if text is None:
        members = value.items() if isinstance(value, dict) else ()
        simple = {_as_text(name): _as_text(each) if _dumped(each) is None else each for name, each in members}
        text = _dumped(simple or _as_text(value), indent) or ""
    return _UNSEEN.sub(_escaped, text)


def _dumped(value: object, indent: int | None = None) -> str | None:
    """None for a key that is no text, NaN, a circle."""
    try:
        return json.dumps(value, indent=indent, ensure_ascii=False, default=_as_text, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        return None


def _as_text(value: object) -> str:
    try:
        return str(value)
    except Exception:  # logged or shown all the same
        return f"({type(value).__name__})"


def _is_seen(char: str) -> bool:
    return char.isprintable() or char in _SPACES


def _line_kept(match: re.Match[str]) -> str:
    return match[0] if match[0] in "\n\t" else _written_out(match)


def _written_out(match: re.Match[str]) -> str:
    return match[0] if _is_seen(match[0]) else match[0].encode("unicode_escape").decode()


def _escaped(match: re.Match[str]) -> str:
    char = match[0]
    return char if char == "\n" or _is_seen(char) else json.dumps(char)[1:-1]
