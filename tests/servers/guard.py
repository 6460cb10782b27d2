"""Keeps one server for as long as its owner lives. A script of its own, standard library only.

It starts the server in a process group, prints the server's process id and its own, then waits for the first
of: the server ends; SIGTERM (a clean stop); its standard input closes, as it does however the owner dies.
Then it ends the server and everything that the server started. It adopts orphans (a daemon such as Erlang's
epmd leaves its group and its parent), so that nothing stays behind and nothing has to be looked up by name.

The one argument is JSON: `command`, `log`, `folder`; `linger` (true: ignore standard input); `user` (null: as
we are); `end_signal` and `remove` (the folder) for when the owner is gone; `grace` in seconds.
"""

import ctypes
import json
import os
import pwd
import select
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

_LIBC = ctypes.CDLL(None)
_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36


def _die_with_guard() -> None:
    """Runs in the server between fork and exec: should the guard itself be killed, so is the server."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _start(plan: dict[str, Any]) -> "subprocess.Popen[bytes]":
    account = pwd.getpwnam(plan["user"]) if plan["user"] else None
    identity: dict[str, Any] = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []} if account else {}
    with Path(plan["log"]).open("ab") as log:
        return subprocess.Popen(
            plan["command"],
            cwd=plan["folder"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            preexec_fn=_die_with_guard,
            **identity,
        )


def _wait(server: int, wakeup: int, linger: bool) -> str:
    """Until something happens: "ended", "stop" or "orphaned"."""
    poll = select.poll()
    poll.register(server, select.POLLIN)
    poll.register(wakeup, select.POLLIN)
    if not linger:
        poll.register(0, select.POLLIN | select.POLLHUP)
    ready = {number for number, _ in poll.poll()}
    if server in ready:
        return "ended"
    return "stop" if wakeup in ready else "orphaned"


def _end(pid: int, handle: int, number: int, grace: float) -> None:
    """Signals the server's group and waits for the server itself; SIGCONT, since a frozen one can't react."""
    for each in (number, signal.SIGCONT):
        try:
            os.killpg(pid, each)
        except ProcessLookupError:
            return
    select.select([handle], [], [], grace)


def _children() -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_text()
            except OSError:
                continue
            if int(stat.rpartition(")")[2].split()[1]) == os.getpid():
                found.append(int(entry.name))
    return found


def _sweep() -> None:
    """Kills what is left. The children of a killed one become ours, so go on until there are none."""
    while children := _children():
        for pid in children:
            os.kill(pid, signal.SIGKILL)
        for pid in children:
            os.waitpid(pid, 0)


def main(plan: dict[str, Any]) -> None:
    """Starts the server, waits, cleans up."""
    if plan["linger"] and os.fork():
        os._exit(0)  # whoever started us need not wait for what outlives it
    _LIBC.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    wakeup, alarm = os.pipe()
    os.set_blocking(alarm, False)
    signal.set_wakeup_fd(alarm)
    signal.signal(signal.SIGTERM, lambda *_: None)
    server = _start(plan)
    handle = os.pidfd_open(server.pid)
    os.write(1, f"{server.pid} {os.getpid()}\n".encode())
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)  # whoever started us reads to the end
    os.dup2(nowhere, 2)
    reason = _wait(handle, wakeup, plan["linger"])
    if reason != "ended":
        number = signal.SIGTERM if reason == "stop" else plan["end_signal"]
        _end(server.pid, handle, number, plan["grace"])
    _sweep()
    if reason == "orphaned" and plan["remove"]:
        shutil.rmtree(plan["folder"], ignore_errors=True)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
