"""What every test of the core may use: a clock that is turned by hand, and brokers that follow a script."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterator

import pytest
from hypothesis import HealthCheck, settings
from tests import scripted as _scripted
from tests.dealing import dealt
from tests.scripted import HandClock, ScriptedBroker
from tests.slowness import slowness

from msgbus import brokers
from msgbus.broker import Capabilities

pytest_plugins = ["tests.servers.fixtures"]

# How long an example takes tells of the machine, not of the code.
# The same examples are drawn each time; MSGBUS_TEST_EXAMPLES=msgbus-other draws others.
settings.register_profile("msgbus", deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
settings.register_profile("msgbus-other", settings.get_profile("msgbus"), derandomize=False)
settings.load_profile(os.environ.get("MSGBUS_TEST_EXAMPLES", "msgbus"))

OpenScripted = Callable[..., ScriptedBroker]


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> Generator[None]:
    """A time limit is there to end what hangs: on a slow machine it comes later. A killed server is a fault.

    When the others have chosen and shuffled, fault runs go first: they are the longest, and mostly wait.
    """
    for item in items:
        if "restart_of_the_server" in item.name:
            item.add_marker(pytest.mark.faults)
        item.add_marker(pytest.mark.timeout(_limit(config, item) * slowness()), append=False)
    yield
    workers: int = getattr(config, "workerinput", {}).get("workercount", 1)
    items[:] = dealt(items, workers, lambda item: item.get_closest_marker("faults") is not None)


def _limit(config: pytest.Config, item: pytest.Item) -> float:
    marker = item.get_closest_marker("timeout")
    return float(marker.args[0] if marker is not None else config.getini("timeout"))


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting of the machine decides a test."""
    for name in list(os.environ):
        if name.upper().startswith("MSGBUS_"):
            monkeypatch.delenv(name)


@pytest.fixture
def clock() -> HandClock:
    """Time that passes when the test says so."""
    return HandClock()


@pytest.fixture
def scripted() -> Iterator[OpenScripted]:
    """`scripted(capabilities, name="one")`: a broker that `Bus("scripted://one")` connects to."""

    def make(capabilities: Capabilities = _scripted.PLAIN, name: str = "one") -> ScriptedBroker:
        broker = _scripted.BROKERS[name] = ScriptedBroker(capabilities)
        return broker

    with brokers.registered({"scripted": _scripted.open_scripted}):
        yield make
    _scripted.BROKERS.clear()
