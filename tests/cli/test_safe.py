"""What strangers wrote does nothing to a terminal, and no line of a log is theirs."""

from __future__ import annotations

import json
import logging
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from msgbus.cli.dead import as_data, body_as_text
from msgbus.cli.logs import JsonLines, Readable
from msgbus.cli.output import add_row, complain, headers_as_text, note, say, say_json, table_of
from msgbus.cli.safe import on_one_line, visible, visible_json
from msgbus.dead import DeadLetter

HOSTILE = "\x1b]0;title\x07 \x9b31m \x85 \u202e \u2066 \x00 \r \ud800 \x7f\n12:00:00.000 ERROR msgbus: forged"
LETTER = DeadLetter({"ce-id": HOSTILE, f"x{HOSTILE}": HOSTILE}, HOSTILE.encode("utf-8", "surrogatepass"))


def is_safe(text: str, *, but: str = "\n") -> bool:
    """Whether nothing in it is obeyed by a terminal."""
    return all(char.isprintable() or char in but for char in text)


def test_every_way_to_print_writes_it_out(capsys: pytest.CaptureFixture[str]) -> None:
    say(HOSTILE)
    say(headers_as_text(LETTER.headers))
    say(body_as_text(LETTER.body))
    say(body_as_text(json.dumps({"a": HOSTILE}).encode()))
    say_json([as_data(LETTER)])
    complain(HOSTILE)
    note(HOSTILE)
    table = table_of("id")
    add_row(table, HOSTILE)
    Console(width=400).print(table)
    out, err = capsys.readouterr()
    assert is_safe(out)
    assert is_safe(err)
    assert "\\x1b]0;title" in out
    assert "\n12:00:00.000" not in err
    assert "\n12:00:00.000" not in out.replace(visible(HOSTILE), "")


def test_a_header_is_one_line() -> None:
    assert headers_as_text({"a": "1\nb  2", "c\n": ""}).split("\n") == ["a    1\\nb  2", "c\\n  "]


def test_json_is_what_it_was_and_does_nothing() -> None:
    text = visible_json({"a": HOSTILE, "b": ["ä", "日本", 1.5, None]}, indent=2)
    assert json.loads(text) == {"a": HOSTILE, "b": ["ä", "日本", 1.5, None]}
    assert is_safe(text)
    assert "日本" in text


@given(st.text())
def test_any_text(text: str) -> None:
    assert json.loads(visible_json(text)) == text
    assert is_safe(visible(text), but="\n\t\u00a0\u1680\u202f\u205f\u3000" + "".join(map(chr, range(0x2000, 0x200B))))
    assert "\n" not in on_one_line(text)
    visible(text).encode()


class _Unreadable:
    def __str__(self) -> str:
        raise ValueError("no text")


ODD = [{1: float("nan")}, {("a",): 1}, object(), _Unreadable(), {"a": _Unreadable()}, {b"": 1}]


@pytest.mark.parametrize("value", ODD)
def test_what_is_no_json_is_shown_all_the_same(value: Any) -> None:
    json.loads(visible_json(value))


def logged(message: str, *args: object, error: BaseException | None = None, **extra: object) -> logging.LogRecord:
    """A record."""
    info: Any = None
    if error is not None:
        try:
            raise error
        except BaseException:
            info = sys.exc_info()
    return logging.getLogger("shop").makeRecord("shop", logging.ERROR, "shop.py", 1, message, args, info, extra=extra)


def test_a_log_has_no_line_of_a_stranger() -> None:
    lines = Readable(colours=False).format(
        logged("bad %s", HOSTILE, error=ValueError(HOSTILE), header=HOSTILE, mapping={"a": HOSTILE})
    )
    first, *rest = lines.split("\n")
    assert is_safe(lines)
    assert "forged" in first
    assert all(line.startswith("  ") for line in rest)


def test_a_json_log_is_one_object_a_line_whatever_is_in_it() -> None:
    odd = {"a": HOSTILE, "b": float("inf"), "c": {(1, 2): 3}, "d": _Unreadable()}
    line = JsonLines().format(logged("bad %s %d", HOSTILE, error=ValueError(HOSTILE), **odd))
    assert is_safe(line, but="")
    assert "can't be shown" in json.loads(line)["message"]


def test_a_json_log_says_what_caused_an_error() -> None:
    cause, error = OSError("no route to host"), ValueError("can't connect")
    error.__cause__ = cause
    entry = json.loads(JsonLines().format(logged("trying again", error_was=error)))
    assert entry["error_was"] == "ValueError: can't connect, caused by OSError: no route to host"


@pytest.mark.parametrize("formatter", [JsonLines(), Readable(colours=False)])
def test_a_log_has_no_password(formatter: logging.Formatter) -> None:
    url = "amqp://me:s3cr3t@host/v"
    text = formatter.format(logged("to %s", url, error=ValueError(url), url=url, cause=OSError(url)))
    assert "host" in text
    assert "s3cr3t" not in text
