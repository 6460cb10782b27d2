"""SIGTERM in each state that a service can be in: it ends, by itself, with exit code 0."""

from __future__ import annotations

from collections.abc import Callable

from tests.newcomer.brokers import own
from tests.newcomer.environment import Fresh, Serving, Variables
from tests.servers import private_server
from tests.servers.instance import Server

State = Callable[[Fresh, Variables, Serving], None]


def publish(fresh: Fresh, given: Variables, name: str, seconds: float = 0.0) -> None:
    """One job."""
    fresh.run("msgbus", "publish", "service:jobs", f'{{"name": "{name}", "seconds": {seconds}}}', variables=given)


def idle(fresh: Fresh, given: Variables, service: Serving) -> None:
    """Nothing to do."""
    service.stop()


def busy(fresh: Fresh, given: Variables, service: Serving) -> None:
    """A handler runs, and ends within the grace."""
    publish(fresh, given, "short", 1.0)
    service.until("begun short")
    assert "handled short" in service.stop()


def stuck(fresh: Fresh, given: Variables, service: Serving) -> None:
    """A handler does not end within the grace."""
    publish(fresh, given, "long", 600.0)
    service.until("begun long")
    assert any("the message goes back" in line for line in service.stop())


def retrying(fresh: Fresh, given: Variables, service: Serving) -> None:
    """A message waits for its next attempt."""
    publish(fresh, given, "later")
    service.until("attempt 1 failed")
    service.stop()


def paused(fresh: Fresh, given: Variables, service: Serving) -> None:
    """The breaker is open."""
    for _ in range(5):
        publish(fresh, given, "outage")
    service.until("paused after")
    service.stop()


STATES: tuple[State, ...] = (idle, busy, stuck, retrying, paused)


def at(fresh: Fresh, url: str, state: State, *, uvloop: bool) -> str:
    """One state, on a server that is well."""
    given = own({"MSGBUS_URL": url})
    with fresh.serving(given, "--grace", "3", uvloop=uvloop) as service:
        service.until("consuming")
        state(fresh, given, service)
    return f"SIGTERM while {state.__name__} on {'uvloop' if uvloop else 'asyncio'}"


def workers(fresh: Fresh, url: str) -> str:
    """A parent with two workers."""
    given = own({"MSGBUS_URL": url})
    with fresh.serving(given, "--workers", "2") as service:
        service.until("consuming", "consuming")
        service.stop()
    return "SIGTERM with two workers"


def connecting(fresh: Fresh, *, uvloop: bool) -> str:
    """No server there yet."""
    with fresh.serving({"MSGBUS_URL": "amqp://127.0.0.1:1/"}, uvloop=uvloop) as service:
        service.until("can't connect")
        service.stop()
    return f"SIGTERM while connecting on {'uvloop' if uvloop else 'asyncio'}"


def without_server(fresh: Fresh) -> str:
    """Its server is frozen, and is killed."""
    with private_server("rabbitmq") as server:
        assert isinstance(server, Server)
        for uvloop in (True, False):
            _while(fresh, server.url, server.freeze, uvloop=uvloop)
            server.thaw()
            _while(fresh, server.url, server.kill, "can't connect", uvloop=uvloop)
            server.restart()
    return "SIGTERM while the server is frozen, and gone, on both loops"


def _while(fresh: Fresh, url: str, harm: Callable[[], None], *lines: str, uvloop: bool) -> None:
    with fresh.serving({"MSGBUS_URL": url}, "--grace", "3", uvloop=uvloop) as service:
        service.until("consuming")
        harm()
        service.until(*lines)
        service.stop()
