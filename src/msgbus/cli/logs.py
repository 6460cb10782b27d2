"""Logging of `msgbus run`: for eyes on a terminal, or one JSON object a line for machines."""

from __future__ import annotations

import logging
import sys
from datetime import UTC, datetime
from enum import StrEnum

from msgbus.brokers.hiding import scrub
from msgbus.cli.safe import on_one_line, visible, visible_json
from msgbus.errors import shown

_KNOWN = frozenset((*vars(logging.makeLogRecord({})), "message", "asctime", "taskName", "color_message"))
_COLOURS = {"DEBUG": "2", "WARNING": "33", "ERROR": "31", "CRITICAL": "1;31"}


class Level(StrEnum):
    """What `--log-level` takes."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


def set_up(*, as_json: bool, level: Level) -> None:
    """Have all logs of this process written to stderr."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines() if as_json else Readable(colours=sys.stderr.isatty()))
    logging.basicConfig(level=level.value.upper(), handlers=[handler], force=True)
    logging.captureWarnings(True)


def extra_of(record: logging.LogRecord) -> dict[str, object]:
    """What the caller gave as `extra=`."""
    return {name: value for name, value in vars(record).items() if name not in _KNOWN}


class JsonLines(logging.Formatter):
    """`{"time": ..., "level": ..., "logger": ..., "message": ..., "pid": ..., **extra, "exception": ...}`."""

    def format(self, record: logging.LogRecord) -> str:
        """One line, whatever is in the record."""
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": scrub(_message(record)),
            "pid": record.process,
        }
        extra = {name: _plain(value) for name, value in extra_of(record).items() if name not in line}
        if record.exc_info:
            extra["exception"] = scrub(record.exc_text or self.formatException(record.exc_info))
        return visible_json(line | extra)


class Readable(logging.Formatter):
    """`12:30:01.250 WARNING msgbus.handler: the message  name=value`, the traceback below it, indented."""

    def __init__(self, *, colours: bool) -> None:
        super().__init__()
        self._colours = colours

    def format(self, record: logging.LogRecord) -> str:
        """One line, and a traceback where there is one: no line of a stranger's text begins as one of ours."""
        time = datetime.fromtimestamp(record.created).strftime("%H:%M:%S.%f")[:-3]
        extra = "".join(f"  {name}={on_one_line(str(_plain(value)))}" for name, value in extra_of(record).items())
        line = f"{time} {record.levelname:<7} {record.name}: {on_one_line(scrub(_message(record)))}"
        if self._colours and (colour := _COLOURS.get(record.levelname)):
            line = f"\x1b[{colour}m{line}\x1b[0m"
        if self._colours and extra:
            extra = f"\x1b[2m{extra}\x1b[0m"
        trace = visible(scrub(record.exc_text or self.formatException(record.exc_info))) if record.exc_info else ""
        return line + extra + "".join(f"\n  {each}" for each in trace.split("\n") if each)


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception:  # arguments that don't fit, or that can't be shown: it is logged all the same
        return f"{record.msg!a} (its arguments can't be shown)"


def _plain(value: object) -> object:
    """An error says what it is and what caused it; text has no password of a URL."""
    if isinstance(value, BaseException):
        return scrub(caused(value))
    return scrub(value) if isinstance(value, str) else value


def caused(error: BaseException) -> str:
    """Class and text of an error, and of what caused it."""
    chain, seen = [shown(error)], {id(error)}
    while (cause := error.__cause__ or error.__context__) is not None and id(cause) not in seen:
        seen.add(id(cause))
        chain.append(shown(cause))
        error = cause
    return ", caused by ".join(chain)
