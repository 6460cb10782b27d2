"""The STOMP rows of `make bench-mq`: msgbus over both wires beside raw stomp.py, on ActiveMQ and on RabbitMQ.

    python -m benchmarks.mq.stomp_rows [ROUNDS [COUNT]]

Each case in a process of its own, interleaved, medians; 1 KiB persistent JSON, prefetch 200. CPU is the client's.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import uuid

from tests.servers import servers

RAW = "raw stomp.py"
CASES = {  # row -> module, option of the URL
    RAW: ("raw_stomp", ""),
    "msgbus, lean wire": ("msgbus_stomp", "?client=lean"),
    "msgbus, stomp.py wire": ("msgbus_stomp", "?client=stomp.py"),
}
WORKS = {"consume": tuple(CASES), "publish": tuple(CASES), "gather": tuple(CASES)[1:]}
TOLD = {
    "consume": "consume, ack each (validation and handler included)",
    "publish": "publish, a hundred at a time",
    "gather": "publish, a hundred tasks with one message each (beside raw publish)",
}

Figures = dict[tuple[str, str], list[dict[str, float]]]


def measure(url: str, rounds: int, count: int) -> Figures:
    """Every case on one server, `rounds` times in turn."""
    found: Figures = {}
    for _ in range(rounds):
        for work, rows in WORKS.items():
            for row in rows:
                queue = f"bench-{uuid.uuid4().hex[:8]}"
                _case("msgbus_stomp", "prepare", url + "?client=lean", queue, count if work == "consume" else 0)
                module, option = CASES[row]
                found.setdefault((work, row), []).append(_case(module, work, url + option, queue, count))
    return found


def _case(module: str, work: str, url: str, queue: str, count: int) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.mq.case", module, work, url, queue, str(count)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
    return json.loads(done.stdout.splitlines()[-1]) if done.stdout.strip() else {}


def report(server: str, figures: Figures) -> str:
    """A table: CPU in microseconds a message, and beside raw stomp.py."""
    lines = [f"STOMP on {server}", f"{'':62} {'CPU us':>8} {'x raw':>6} {'msg/s':>8}"]
    for work, rows in WORKS.items():
        raw = _median(figures["publish" if work == "gather" else work, RAW], "cpu")
        lines.append(TOLD[work])
        for row in rows:
            cpu, rate = _median(figures[work, row], "cpu"), _median(figures[work, row], "rate")
            lines.append(f"  {row:60} {cpu:8.1f} {cpu / raw:6.2f} {rate:8,.0f}")
    lines.append(f"load {os.getloadavg()[0]:.1f}")
    return "\n".join(lines)


def _median(figures: list[dict[str, float]], name: str) -> float:
    return statistics.median(each[name] for each in figures)


def main(rounds: int = 5, count: int = 5000) -> None:
    """Both servers."""
    with servers("activemq", "rabbitmq") as by_name:
        for name, title in (("activemq", "ActiveMQ 5.17"), ("rabbitmq", "RabbitMQ 3.10")):
            print(report(title, measure(by_name[name].url_of("stomp"), rounds, count)), end="\n\n")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
