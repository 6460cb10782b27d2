"""What is left of a stop when everything else is stuck."""

from __future__ import annotations

import subprocess
import sys

import pytest
from tests.slowness import slowness

from msgbus.cli.watchdog import EXIT

STUCK = """
import logging, threading
from msgbus.cli.watchdog import Watchdog

class Full(logging.Handler):
    def emit(self, record):
        threading.Event().wait()

if {log!r} == "takes nothing":
    logging.getLogger().addHandler(Full())
Watchdog(lambda: {held}).bite_in(0.0)
threading.Event().wait()
"""


@pytest.mark.parametrize(
    ("held", "log", "code"),
    [("'3 in hand'", "", EXIT), ("''", "", 0), ("'3 in hand'", "takes nothing", EXIT), ("1 / 0", "", EXIT)],
)
def test_the_process_ends(held: str, log: str, code: int) -> None:
    script = [sys.executable, "-c", STUCK.format(held=held, log=log)]
    assert subprocess.run(script, check=False, capture_output=True, timeout=30 * slowness()).returncode == code
