"""A fresh environment: a venv with the wheel and what the pages install, and nothing of this repository."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tests.slowness import slowness

PATIENCE = 60.0
"""Seconds that a command may take, on a machine that is not slow."""

Variables = Mapping[str, str]
NONE: Variables = {}

BESIDE = (
    *("pytest", "pytest-asyncio", "aio-pika", "prometheus-client", "fastapi", "httpx", "uvicorn"),
    *("sqlalchemy[asyncio]>=2.0.40", "aiosqlite"),  # what the extra `sql` brings, which is not in `all`, and a driver
)
"""What README, tutorial, how-tos and examples tell their readers to install too."""


class Fresh:
    """`folder`: where it lives; a newcomer's working folder is in it, with `service.py`."""

    def __init__(self, folder: Path) -> None:
        self.bin = folder / "venv" / "bin"
        self.home = folder / "home"
        self._hidden = folder / "hidden"

    def make(self, wheel: Path, python: str) -> None:
        """Install `wheel[all]` with the pip of `python`. Raises CalledProcessError where that fails."""
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", self.bin.parent], check=True)
        pip = [python, "-m", "pip", "--python", str(self.bin / "python")]
        quiet = ["--disable-pip-version-check", "install", "--quiet", "--no-warn-script-location"]
        subprocess.run([*pip, *quiet, f"{wheel}[all]", *BESIDE], check=True, stderr=subprocess.DEVNULL)
        self.home.mkdir()
        shutil.copy(Path(__file__).with_name("service.py"), self.home)
        self._hidden.mkdir()
        (self._hidden / "uvloop.py").write_text('raise ModuleNotFoundError("hidden", name="uvloop")\n')
        place = self.run("python", "-c", "import msgbus; print(msgbus.__file__)")
        assert place.startswith(str(self.bin.parent)), f"{place} is not what was installed"

    def environment(self, variables: Variables = NONE, *, uvloop: bool = True) -> dict[str, str]:
        """Of a shell in which it is active; without `uvloop` it looks as if that were not installed."""
        ours = ("MSGBUS_", "PYTHON", "AWS_", "VIRTUAL_ENV")
        kept = {name: value for name, value in os.environ.items() if not name.upper().startswith(ours)}
        kept |= {"PATH": f"{self.bin}{os.pathsep}{os.environ['PATH']}", "PYTHONUTF8": "1", "COLUMNS": "200"}
        return kept | ({} if uvloop else {"PYTHONPATH": str(self._hidden)}) | dict(variables)

    def run(self, *command: str, variables: Variables = NONE, given: str = "", expect: int = 0) -> str:
        """What a command prints. Raises AssertionError where it ends with another exit code, with all it said."""
        done = subprocess.run(
            [self.bin / command[0], *command[1:]], cwd=self.home, input=given, capture_output=True, text=True,
            env=self.environment(variables), timeout=PATIENCE * slowness(), check=False,
        )  # fmt: skip
        said = f"{' '.join(command)}: exit code {done.returncode}\n{done.stdout}{done.stderr}"
        assert done.returncode == expect, said
        assert "Traceback" not in done.stderr, said
        return done.stdout

    @contextmanager
    def started(self, *arguments: str, variables: Variables, uvloop: bool = True) -> Iterator[subprocess.Popen[str]]:
        """`msgbus ARGUMENTS`, gone at the end of the block; its stderr is to be read."""
        with subprocess.Popen(
            [self.bin / "msgbus", *arguments], cwd=self.home, env=self.environment(variables, uvloop=uvloop),
            text=True, start_new_session=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        ) as process:  # fmt: skip
            try:
                yield process
            finally:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)

    @contextmanager
    def serving(self, variables: Variables, *options: str, uvloop: bool = True) -> Iterator[Serving]:
        """`msgbus run service:bus` for the length of the block."""
        arguments = ("run", "service:bus", "--json-logs", *options)
        with self.started(*arguments, variables=variables, uvloop=uvloop) as process:
            yield Serving(process)


class Serving:
    """A process of `msgbus run` whose log is read."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.said: list[str] = []

    def until(self, *beginnings: str) -> None:
        """Read the log up to a line that begins, or ends, with one of them; for each in turn."""
        for beginning in beginnings:
            for line in self._lines():
                if line.startswith(beginning) or beginning in line:
                    break
            else:
                raise AssertionError(f"it ended without {beginning!r}: {self.said}")

    def stop(self) -> list[str]:
        """SIGTERM, and what it says after that. It must end well."""
        self.process.send_signal(signal.SIGTERM)
        after = list(self._lines())
        code = self.process.wait(PATIENCE * slowness())
        assert code == 0, f"exit code {code}: {self.said}"
        assert after[-1].startswith("stopped"), self.said
        return after

    def _lines(self) -> Iterator[str]:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            entry: dict[str, Any] = json.loads(line)
            self.said.append(entry["message"])
            yield entry["message"]
