"""Ends the process if a stop does not: a handler may ignore that it is cancelled, or never come back to the loop."""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Callable

log = logging.getLogger("msgbus.run")

MARGIN = 10.0
"""Seconds beyond the grace period to cancel handlers, hand back and disconnect."""

HURRY = 5.0
"""Seconds for all of that after a second signal."""

EXIT = 70
"""The exit code where messages in hand were given up: EX_SOFTWARE of sysexits.h. Connections are no loss."""


_LAST = 2.0  # seconds to say what is given up


class Watchdog:
    """A thread of its own, for the loop may be what is stuck. `held()` says what is given up then."""

    def __init__(self, held: Callable[[], str]) -> None:
        self._held = held
        self._timers: list[threading.Timer] = []

    def bite_in(self, seconds: float) -> None:
        """From now on; an earlier call does not count any more."""
        self.call_off()
        bite = threading.Timer(seconds, self._bite, (seconds,))
        # The log may take nothing any more. From now on, too: Python begins no thread while it ends.
        last = threading.Timer(seconds + _LAST, os._exit, (EXIT,))
        self._timers = [bite, last]
        for timer in self._timers:
            timer.daemon = True
            timer.start()

    def call_off(self) -> None:
        """It has ended by itself."""
        for timer in self._timers:
            timer.cancel()

    def _bite(self, seconds: float) -> None:
        held = self._held()
        if held:
            log.critical("not stopped within %g s, given up: %s", seconds, held)
        else:
            log.warning("stopped, but connections were not closed within %g s", seconds)
        logging.shutdown()
        sys.stdout.flush()
        os._exit(EXIT if held else 0)
