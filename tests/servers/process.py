"""A server's process, seen through its guard: start it, signal its group, wait until all of it is gone."""

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_GUARD = Path(__file__).with_name("guard.py")


def _born(pid: int) -> str:
    """When the process started, in clock ticks since boot: tells it from a later one with the same id.

    Empty if it has ended, also when nobody has collected it yet (the first process of a container may not).
    """
    try:
        state, *others = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if state in "ZX" else others[18]


@dataclass
class Process:
    """A server and its guard. `born` is the guard's start: ids of processes are used again."""

    pid: int
    guard: int
    born: str
    _child: "subprocess.Popen[bytes] | None" = None

    @classmethod
    def start(cls, plan: dict[str, Any], env: dict[str, str]) -> "Process":
        """Starts a guard with the plan that guard.py describes; returns when the server has been started."""
        guard = subprocess.Popen(
            [sys.executable, "-I", "-S", str(_GUARD), json.dumps(plan)],
            stdin=subprocess.DEVNULL if plan["linger"] else subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=env,
            cwd="/",
            start_new_session=True,  # Ctrl-C at the terminal is for the tests, and they stop their servers
        )
        assert guard.stdout is not None
        assert guard.stderr is not None
        with guard.stdout, guard.stderr:
            line = guard.stdout.readline()
            if not line:
                reason = guard.stderr.read().decode().strip().splitlines()[-1:]
                guard.communicate()
                raise OSError(*reason)
        pid, keeper = map(int, line.split())
        if plan["linger"]:
            guard.wait()  # it left the work to a child that is nobody's
        return cls(pid, keeper, _born(keeper), None if plan["linger"] else guard)

    @property
    def alive(self) -> bool:
        """Whether the server (and so its guard) still runs."""
        if self._child is not None:
            if self._child.poll() is None:
                return True
            self._let_go(self._child)
            return False
        return _born(self.guard) == self.born != ""

    @staticmethod
    def _let_go(guard: "subprocess.Popen[bytes]") -> None:
        if guard.stdin is not None:
            guard.stdin.close()

    def signal(self, number: signal.Signals) -> None:
        """Signals the server's whole process group; nothing happens if it is gone."""
        if self.alive:
            with contextlib.suppress(ProcessLookupError):  # it ends right now
                os.killpg(self.pid, number)

    def stop(self, grace: float) -> None:
        """A clean stop: the guard asks the server to end, and kills it after its own grace."""
        if self.alive:
            os.kill(self.guard, signal.SIGTERM)
        self.wait(grace)

    def wait(self, seconds: float) -> None:
        """Waits until the guard has ended, and with it all that the server had started; else TimeoutError."""
        if self._child is not None:
            try:
                self._child.wait(seconds)
            except subprocess.TimeoutExpired as error:
                raise TimeoutError(f"process {self.guard} is still there after {seconds} s") from error
            self._let_go(self._child)
            return
        try:
            handle = os.pidfd_open(self.guard)
        except ProcessLookupError:
            return
        try:
            if self.alive and not select.select([handle], [], [], seconds)[0]:
                raise TimeoutError(f"process {self.guard} is still there after {seconds} s")
        finally:
            os.close(handle)
