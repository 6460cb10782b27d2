"""`python -m tests.newcomer WHEEL PYTHON`: says what works, and how long it took; exit code 1 where something does not.

PYTHON has a pip. It needs a package index, and RabbitMQ, ActiveMQ and ministack (`python -m tests.servers install`).
"""

from __future__ import annotations

import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.newcomer import brokers, commands, pages, stops
from tests.newcomer.environment import Fresh
from tests.servers import Handle, servers

AT_ONCE = 4


def tasks(fresh: Fresh, running: Mapping[str, Handle]) -> Iterator[Callable[[], str]]:
    """Each is independent of the others, and says what it did."""
    url = running["rabbitmq"].url
    yield partial(stops.without_server, fresh)  # the longest first
    for page in pages.PAGES:
        yield partial(pages.read, fresh, running, page)
    for example in pages.EXAMPLES:
        yield partial(pages.example, fresh, running, example)
    yield partial(commands.shared, fresh, running)
    yield partial(commands.kinesis, fresh, running)
    yield partial(commands.helps, fresh)
    yield partial(commands.looks, fresh)
    for name, variables in brokers.urls(running).items():
        for loop in brokers.LOOPS:
            yield partial(brokers.round_trip, fresh, name, variables, loop)
    for uvloop in (True, False):
        yield partial(stops.connecting, fresh, uvloop=uvloop)
        for state in stops.STATES:
            yield partial(stops.at, fresh, url, state, uvloop=uvloop)
    yield partial(stops.workers, fresh, url)


def main(wheel: Path, python: str) -> int:
    """The exit code."""
    began, failed = time.monotonic(), 0
    with TemporaryDirectory(prefix="msgbus-newcomer-") as folder, ThreadPoolExecutor(AT_ONCE) as pool:
        fresh = Fresh(Path(folder))
        fresh.make(wheel.resolve(), python)
        say(f"installed {wheel.name}[all]", began)
        with servers("rabbitmq", "activemq", "ministack") as running:
            for done in as_completed([pool.submit(task) for task in tasks(fresh, running)]):
                if error := done.exception():
                    failed += 1
                    sys.stdout.write("".join(traceback.format_exception(error)))
                else:
                    say(done.result(), began)
    say(f"{failed} failed" if failed else "all works", began)
    return 1 if failed else 0


def say(what: str, began: float) -> None:
    """A line."""
    sys.stdout.write(f"{time.monotonic() - began:6.1f} s  {what}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2]))
