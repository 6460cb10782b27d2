"""The example of an event log, on Kinesis: what it prints on the embedded broker, it prints here."""

import os
import subprocess
import sys
from pathlib import Path

from tests.kinesis.conftest import Bench
from tests.test_examples import PRINTED, lines_of

ROOT = Path(__file__).parents[2]


def test_the_event_log_is_the_same_on_kinesis(bench: Bench) -> None:
    url = bench.url(endpoint=bench.direct)
    environment = {
        **os.environ,
        "MSGBUS_URL": url,
        "MSGBUS_PROVISION": "create",
        "MSGBUS_PREFIX": f"{bench.topic}-",
        "PYTHONUTF8": "1",
    }
    command = [sys.executable, "-W", "error", "examples/12_event_log.py"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=50, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert lines_of(done.stdout) == lines_of(PRINTED["12_event_log"])
