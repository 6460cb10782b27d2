"""Run a command beside so many busy processes: `python tools/busy.py 8 make test`. Its exit code is the command's."""

import subprocess
import sys

SPIN = "import os\nparent = os.getppid()\nwhile os.getppid() == parent:\n    sum(range(100_000))"
"""Ends with whoever started it, however that ends."""


def main(count: int, command: list[str]) -> int:
    """The command's exit code; the busy processes have ended."""
    busy = [subprocess.Popen([sys.executable, "-c", SPIN]) for _ in range(count)]  # noqa: S603
    try:
        return subprocess.run(command, check=False).returncode  # noqa: S603
    finally:
        for each in busy:
            each.kill()
        for each in busy:
            each.wait()


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), sys.argv[2:]))
