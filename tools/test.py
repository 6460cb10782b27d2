"""Run the tests and, beside them, the checks; say what failed and how long it took. Arguments go to pytest.

    python tools/test.py -n 4 --dist worksteal

Tests wait for servers most of the time, so the checks cost little when they run meanwhile.
"""

import os
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field

PYTHON = (sys.executable, "-m")
CHECKS = (("ruff", "check", "."), ("ruff", "format", "--check", "."), ("mypy",), ("pyright",))


@dataclass
class Checks:
    """One after the other, in a thread and out of the tests' way."""

    failed: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def run(self) -> None:
        began = time.monotonic()
        for command in CHECKS:
            with tempfile.TemporaryFile("w+") as said:
                done = subprocess.run(["nice", *PYTHON, *command], stdout=said, stderr=said, check=False)  # noqa: S603, S607
                if done.returncode:
                    said.seek(0)
                    self.failed.append(f"{' '.join(command)}:\n{said.read()}")
        self.seconds = time.monotonic() - began


def main() -> int:
    """0 if all is well."""
    began, checks = time.monotonic(), Checks()
    thread = threading.Thread(target=checks.run)
    thread.start()
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": ""}  # processes of tests start quicker
    tests = subprocess.run([*PYTHON, "pytest", *sys.argv[1:]], env=environment, check=False).returncode  # noqa: S603
    tested = time.monotonic() - began
    thread.join()
    whole = time.monotonic() - began
    for each in checks.failed:
        sys.stdout.write(f"\n{each}")
    verdict = f"tests {'ok' if not tests else 'FAILED'} in {_minutes(tested)}"
    verdict += f", checks {'FAILED' if checks.failed else 'ok'} in {_minutes(checks.seconds)}"
    sys.stdout.write(f"{verdict}, all in {_minutes(whole)}\n")
    return 1 if tests or checks.failed else 0


def _minutes(seconds: float) -> str:
    return f"{int(seconds) // 60} min {int(seconds) % 60:02} s"


if __name__ == "__main__":
    sys.exit(main())
