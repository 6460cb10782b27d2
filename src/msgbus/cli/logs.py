"""Logging of `msgbus run`: for eyes on a terminal, or one JSON object a line for machines."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from enum import StrEnum

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
            "message": record.getMessage(),
            "pid": record.process,
        }
        line |= {name: value for name, value in extra_of(record).items() if name not in line}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str, ensure_ascii=False)


class Readable(logging.Formatter):
    """`12:30:01.250 WARNING msgbus.handler: the message  name=value`, the traceback below it."""

    def __init__(self, *, colours: bool) -> None:
        super().__init__()
        self._colours = colours

    def format(self, record: logging.LogRecord) -> str:
        """One line, and a traceback where there is one."""
        time = datetime.fromtimestamp(record.created).strftime("%H:%M:%S.%f")[:-3]
        extra = "".join(f"  {name}={value}" for name, value in extra_of(record).items())
        line = f"{time} {record.levelname:<7} {record.name}: {record.getMessage()}"
        if self._colours and (colour := _COLOURS.get(record.levelname)):
            line = f"\x1b[{colour}m{line}\x1b[0m"
        if self._colours and extra:
            extra = f"\x1b[2m{extra}\x1b[0m"
        trace = f"\n{self.formatException(record.exc_info)}" if record.exc_info else ""
        return line + extra + trace
