"""What the log takes of strangers: so many lines of a kind, and so much of a traceback."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable, Hashable

from msgbus.errors import DecodeError

_BURST = 50
_PERIOD = 60.0
_TRACEBACK_CHARACTERS = 20_000


class Chatter:
    """Up to 50 lines of a kind in a minute; the next one after that says how many were left out.

    `now` gives seconds; a clock that jumps makes a line more or less.
    """

    def __init__(self, now: Callable[[], float], burst: int = _BURST, period: float = _PERIOD) -> None:
        self._now = now
        self._burst = burst
        self._period = period
        self._kinds: dict[Hashable, tuple[float, int]] = {}  # since when, how many

    def admit(self, kind: Hashable) -> str | None:
        """None: leave it out. Else what to put behind the line, "" where none was left out before it."""
        now = self._now()
        since, count = self._kinds.get(kind, (now, 0))
        if now - since < self._period:
            self._kinds[kind] = (since, count + 1)
            return "" if count < self._burst else None
        self._kinds[kind] = (now, 1)
        left_out = count - self._burst
        return f" ({left_out} more like it were not logged)" if left_out > 0 else ""


class SafeTracebacks(logging.Filter):
    """For loggers of users' errors: one with megabytes of text, or half a surrogate pair, costs the log nothing else.

    The traceback is made here, cut in its middle, and what can't be encoded is written out. A DecodeError has none: its
    text says what is wrong and where, while that of its cause shows the body.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Every record passes."""
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, DecodeError):
            record.exc_info = None
        elif error is not None and record.exc_text is None:
            record.exc_text = _safe_traceback(error)
        return True


def _safe_traceback(error: BaseException) -> str:
    text = "".join(traceback.format_exception(error)).rstrip("\n").encode(errors="backslashreplace").decode()
    if len(text) <= _TRACEBACK_CHARACTERS:
        return text
    half = _TRACEBACK_CHARACTERS // 2
    return f"{text[:half]}\n[{len(text) - 2 * half:,} characters left out]\n{text[-half:]}"
