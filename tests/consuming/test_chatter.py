"""What the log takes of strangers."""

from __future__ import annotations

import io
import logging

from msgbus.consuming.chatter import Chatter, SafeTracebacks


def test_lines_of_a_kind_are_limited_and_the_next_one_says_how_many_were_left_out() -> None:
    now = [0.0]
    chatter = Chatter(lambda: now[0], burst=2, period=60.0)
    assert [chatter.admit("a") for _ in range(4)] == ["", "", None, None]
    assert chatter.admit("b") == ""
    now[0] = 61.0
    assert chatter.admit("a") == " (2 more like it were not logged)"
    assert chatter.admit("a") == ""


def _logged(error: BaseException) -> str:
    stream = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    logger = logging.getLogger("test of tracebacks")
    logger.addFilter(safe := SafeTracebacks())
    logger.addHandler(handler := logging.StreamHandler(stream))
    logger.error("it failed", exc_info=error)
    logger.removeFilter(safe)
    logger.removeHandler(handler)
    stream.seek(0)
    return stream.read()


def test_the_traceback_of_an_error_with_megabytes_of_text_is_cut_in_its_middle() -> None:
    text = _logged(ValueError("a" * 1_000_000 + "the end"))
    assert len(text) < 25_000
    assert "ValueError" in text
    assert "characters left out" in text
    assert text.endswith("the end\n")


def test_half_a_surrogate_pair_is_written_out() -> None:
    assert r"a\ud800b" in _logged(ValueError("a\ud800b"))
