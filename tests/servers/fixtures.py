"""Fixtures over the servers. A conftest takes them with `pytest_plugins = ["tests.servers.fixtures"]`.

`ministack`, `fauxqs`, `kinesis_local`, `moto`, `rabbitmq`, `activemq`, `postgres`: one for the session.
All that the collected tests ask for are installed and started in parallel before the first test.
`killable`: an instance of a worker's own, for tests that kill it: each finds it up, with what others left.
`start_private`: starts an instance for one test alone. Starting RabbitMQ costs 10 s of a core, ActiveMQ 8.
With `pytest -n` the process that hands out the tests starts them when the first worker asks, once for all.
A server that can't be had skips its tests with the reason; with CI=true that is a failure.
(PYTEST_DONT_REWRITE: there is no assert here, and the module may be imported before pytest registers it.)
"""

import functools
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NoReturn

import pytest
from tests.servers import NAMES, Handle, Server, ServerError, UnavailableError, door, private_server, server
from tests.servers.catalog import definition

DOOR = os.environ.get(door.PLACE)
"""Of the process that hands out the tests, where this is a worker of `pytest -n`."""


def _started(name: str) -> Handle:
    if DOOR is None:
        return server(name).__enter__()
    return Handle.from_environment(definition(name)) or door.ask(DOOR, name)


class Pool:
    """The shared instances of a session, each started once, in a thread of its own."""

    def __init__(self) -> None:
        self._starts: dict[str, Future[Handle]] = {}
        self._lock = threading.Lock()  # workers ask through the door at once, each in a thread
        self._threads = ThreadPoolExecutor(max_workers=len(NAMES), thread_name_prefix="test-servers")

    def begin(self, names: Iterable[str]) -> None:
        """Begins to start those that are not started, and returns at once."""
        with self._lock:
            for name in names:
                if name not in self._starts:
                    self._starts[name] = self._threads.submit(_started, name)

    def get(self, name: str) -> Handle:
        """The shared instance, when it is ready; raises the same error each time if it can't be started."""
        self.begin([name])
        return self._starts[name].result()

    def close(self) -> None:
        """Ends all of them."""
        for start in self._starts.values():
            if start.exception() is None:
                start.result().close()
        self._starts.clear()


@functools.cache
def pool() -> Pool:
    """The one pool of this process, however often this module's fixtures are imported."""
    return Pool()


@functools.cache
def killables() -> dict[str, Server]:
    """The killable instances of this process, by name."""
    return {}


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--no-servers`: only the tests that need none."""
    parser.addoption("--no-servers", action="store_true", help="only the tests that need no server")


def pytest_configure(config: pytest.Config) -> None:
    """Remembers the option for fixtures that are asked for by name."""
    _Without.servers = config.getoption("--no-servers", default=False)


class _Without:
    servers = False


def give_up(error: UnavailableError) -> NoReturn:
    """Skips the test with the reason; in CI nothing may be skipped."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"in CI nothing is skipped: {error}", pytrace=False)
    pytest.skip(str(error))


def shared(name: str) -> Handle:
    """The session's instance of a server, for a fixture or a test."""
    if _Without.servers:
        pytest.skip(f"needs {name}")
    try:
        return pool().get(name)
    except UnavailableError as error:
        give_up(error)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leaves out what names a server among its fixtures."""
    if not _Without.servers:
        return
    named = {name.replace("-", "_") for name in NAMES} | {"server_pool", "start_private", "killable", "running"}
    left_out = [item for item in items if named & set(getattr(item, "fixturenames", ()))]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in set(left_out)]


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_setupnodes() -> None:
    """Opens the door to the workers: only they know which tests there are."""
    os.environ[door.PLACE] = opened().place


@functools.cache
def opened() -> door.Door:
    """The door of this process."""
    return door.Door(pool().get)


def pytest_unconfigure() -> None:
    """Ends what no session fixture ended."""
    if opened.cache_info().currsize:
        opened().close()
    pool().close()
    for each in killables().values():
        each.close()


def pytest_collection_finish(session: pytest.Session) -> None:
    """Starts what the tests ask for, outside of any test's time limit."""
    if session.config.option.collectonly:
        return
    asked = {fixture for item in session.items for fixture in getattr(item, "fixturenames", ())}
    names = [name for name in NAMES if name.replace("-", "_") in asked]
    began = time.monotonic()
    pool().begin(names)
    reports = [_report(name) for name in names]
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if reports and reporter is not None:
        reporter.write_line(f"servers ({time.monotonic() - began:.1f} s): {'; '.join(reports)}")


def _report(name: str) -> str:
    try:
        return f"{name} at {pool().get(name).url.rpartition('@')[2]}"
    except ServerError as error:
        return f"{name} is missing: {error}"


@pytest.fixture(scope="session")
def server_pool() -> Iterator[Pool]:
    """The shared instances; they end with the session."""
    yield pool()
    pool().close()


def _fixture(name: str) -> Callable[[Pool], Handle]:
    @pytest.fixture(scope="session", name=name.replace("-", "_"))
    def fixture(server_pool: Pool) -> Handle:
        return shared(name)

    return fixture


ministack = _fixture("ministack")
fauxqs = _fixture("fauxqs")
kinesis_local = _fixture("kinesis-local")
moto = _fixture("moto")
rabbitmq = _fixture("rabbitmq")
activemq = _fixture("activemq")
postgres = _fixture("postgres")


@pytest.fixture
def killable() -> Callable[[str], Server]:
    """`killable("rabbitmq")`: up, ours alone for the time of the test, and used by other tests before and after."""

    def get(name: str) -> Server:
        if _Without.servers:
            pytest.skip(f"needs {name}")
        found = killables().setdefault(name, private_server(name))
        try:
            found.start()  # the first time, and where a test left it down
        except UnavailableError as error:
            give_up(error)
        return found

    return get


@pytest.fixture
def start_private() -> Iterator[Callable[[str], Server]]:
    """`start_private("rabbitmq")` starts an instance that only this test has, and that ends with it."""
    mine: list[Server] = []

    def start(name: str) -> Server:
        mine.append(private_server(name))
        try:
            mine[-1].start()
        except UnavailableError as error:
            give_up(error)
        return mine[-1]

    yield start
    for each in mine:
        sys.stdout.write(f"{each.name} printed at the end:\n{each.log}\n")  # shown only if the test failed
        each.close()
