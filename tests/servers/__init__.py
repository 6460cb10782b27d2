"""Real servers for tests, benchmarks, examples and the demo: installed if missing, private, gone afterwards.

    with server("rabbitmq") as s:
        s.url, s.url_of("stomp"), s.env
        s.kill(); s.restart(); s.freeze(); s.thaw()
    with servers("ministack", "postgres") as by_name:      # installed and started in parallel
        by_name["postgres"].url

On the command line: `python -m tests.servers start rabbitmq ministack`.
"""

import contextlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from tests.servers.catalog import NAMES, definition
from tests.servers.errors import NotOursError, ServerError, StartError, UnavailableError
from tests.servers.handle import Handle
from tests.servers.instance import Server
from tests.servers.model import Keeps
from tests.servers.proxy import Proxy

__all__ = [
    "NAMES",
    "Handle",
    "Keeps",
    "NotOursError",
    "Proxy",
    "Server",
    "ServerError",
    "StartError",
    "UnavailableError",
    "private_server",
    "server",
    "servers",
]


def server(name: str) -> Handle:
    """The one that its environment variable names, else a private one; `with` or `async with` starts it."""
    kind = definition(name)
    return Handle.from_environment(kind) or Server.new(kind)


def private_server(name: str) -> Server:
    """Always a private one, whatever the environment says: for tests that kill it."""
    return Server.new(definition(name))


@contextlib.contextmanager
def servers(*names: str) -> Iterator[dict[str, Handle]]:
    """Several at once, by name. An error is raised when all are ready or failed; then all are closed."""
    handles = {name: server(name) for name in names}
    try:
        with ThreadPoolExecutor(max_workers=max(1, len(names))) as pool:
            started = [pool.submit(each.start) for each in handles.values()]
        for each in started:
            each.result()
        yield handles
    finally:
        for handle in handles.values():
            handle.close()
