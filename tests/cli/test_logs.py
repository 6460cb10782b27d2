"""Logging for eyes and for machines."""

from __future__ import annotations

import json
import logging
import sys

import pytest

from msgbus.cli.logs import JsonLines, Level, Readable, set_up


def record(**extra: object) -> logging.LogRecord:
    try:
        raise ValueError("no funds")
    except ValueError:
        error = sys.exc_info()
    return logging.getLogger("shop").makeRecord(
        "shop", logging.WARNING, "shop.py", 1, "order %s failed", ("1",), error, extra=extra
    )


def test_json_has_the_extra_fields() -> None:
    line = JsonLines().format(record(attempt=2, source="topic orders", odd=object(), pid="mine"))
    assert "\n" not in line
    entry = json.loads(line)
    assert (entry["level"], entry["logger"], entry["message"]) == ("WARNING", "shop", "order 1 failed")
    assert (entry["attempt"], entry["source"]) == (2, "topic orders")
    assert entry["odd"].startswith("<object")
    assert entry["pid"] != "mine"
    assert entry["exception"].endswith("ValueError: no funds")
    assert next(iter(entry)) == "time"


def test_text_is_one_line_and_a_traceback() -> None:
    first, *rest = Readable(colours=False).format(record(attempt=2)).split("\n")
    assert first.endswith(" WARNING shop: order 1 failed  attempt=2")
    assert rest[-1] == "  ValueError: no funds"


def test_colours() -> None:
    text = Readable(colours=True).format(record(attempt=2))
    assert "\x1b[33m" in text
    assert "\x1b[2m  attempt=2\x1b[0m" in text


@pytest.mark.parametrize("as_json", [True, False])
def test_set_up(capsys: pytest.CaptureFixture[str], as_json: bool) -> None:
    set_up(as_json=as_json, level=Level.WARNING)
    logging.getLogger("shop").info("too quiet")
    logging.getLogger("shop").warning("heard", extra={"attempt": 1})
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert ('"attempt": 1' if as_json else "attempt=1") in err
