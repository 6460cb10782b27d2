"""The test servers themselves: each answers, can be killed, comes back, and leaves nothing behind."""

import asyncio
import contextlib
import dataclasses
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from tests.servers import (
    NAMES,
    Handle,
    Keeps,
    NotOursError,
    Server,
    ServerError,
    StartError,
    UnavailableError,
    fixtures,
    packages,
    probe,
    server,
    servers,
    state,
)
from tests.servers.__main__ import main
from tests.servers.catalog import DEFINITIONS, definition
from tests.servers.door import Shared
from tests.servers.fixtures import give_up, pool, shared
from tests.servers.install import ensure, run
from tests.servers.net import listening
from tests.slowness import slowness

pytest_plugins = ["tests.servers.fixtures"]
pytestmark = pytest.mark.timeout(900)  # the first run installs the servers

StartPrivate = Callable[[str], Server]


def eventually(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    """Waits for a condition, and fails if it does not come true in time."""
    deadline = time.monotonic() + seconds * slowness()
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


# One real exchange with each server


@pytest.fixture(scope="module", params=NAMES)
def running(request: pytest.FixtureRequest, server_pool: object) -> Handle:
    pool().begin(NAMES)  # all at once: the first parameter would otherwise hold up the others
    return shared(request.param)


def sqs(url: str) -> str:
    queue = probe.aws(url, "sqs", "AmazonSQS.CreateQueue", {"QueueName": "hello"})["QueueUrl"]
    probe.aws(url, "sqs", "AmazonSQS.SendMessage", {"QueueUrl": queue, "MessageBody": "hello"})
    answer = probe.aws(url, "sqs", "AmazonSQS.ReceiveMessage", {"QueueUrl": queue, "WaitTimeSeconds": 2})
    return str(answer["Messages"][0]["Body"])


def kinesis(url: str) -> str:
    probe.aws(url, "kinesis", "Kinesis_20131202.CreateStream", {"StreamName": "hello", "ShardCount": 1})
    found = probe.aws(url, "kinesis", "Kinesis_20131202.DescribeStream", {"StreamName": "hello"})
    return str(found["StreamDescription"]["StreamName"])


def glue(url: str) -> str:
    probe.aws(url, "glue", "AWSGlue.CreateRegistry", {"RegistryName": "hello"})
    found = probe.aws(url, "glue", "AWSGlue.GetRegistry", {"RegistryId": {"RegistryName": "hello"}})
    return str(found["RegistryName"])


def stomp(url: str) -> str:
    session = probe.Stomp(url)
    session.send("hello", "hello")
    body = session.receive("hello")
    session.close()
    return body


EXCHANGES: dict[str, Callable[[str], str]] = {
    "ministack": sqs,
    "fauxqs": sqs,
    "kinesis-local": kinesis,
    "moto": glue,
    "activemq": stomp,
    "postgres": lambda url: probe.postgres(url, "select 'hel' || 'lo'"),
}


def test_each_server_answers(running: Handle) -> None:
    if running.name != "rabbitmq":
        assert EXCHANGES[running.name](running.url) == "hello"
        return
    assert b"RabbitMQ" in probe.amqp_greeting(running.url)
    assert stomp(running.url_of("stomp")) == "hello"
    assert probe.management(running.url_of("management"), "/api/overview")["rabbitmq_version"]


def test_each_listens_on_the_loopback_only(running: Handle) -> None:
    if not isinstance(running, Server | Shared):
        pytest.skip(f"{running.name} was not started here")
    for url in running.variables.values():
        assert listener_addresses(urlsplit(url).port or 0) <= LOOPBACKS


# 127.0.0.1, the same as an IPv6 address, and ::1, as the kernel writes them
LOOPBACKS = {"0100007F", "0000000000000000FFFF00000100007F", "00000000000000000000000001000000"}


def listener_addresses(port: int) -> set[str]:
    """The addresses on which somebody listens at this port."""
    tables = [Path("/proc/net", name).read_text().splitlines() for name in ("tcp", "tcp6")]
    lines = [line.split() for table in tables for line in table]
    local = [line[1].split(":") for line in lines if line[3] == "0A"]
    return {address for address, number in local if int(number, 16) == port}


def test_clients_get_their_environment(running: Handle) -> None:
    assert running.alive
    expected = running.url if running.definition.client_env else None
    assert running.env.get("AWS_ENDPOINT_URL") == expected


# Killed, restarted, frozen


@pytest.mark.parametrize("name", ["rabbitmq", "activemq"])
def test_a_killed_broker_comes_back_with_its_messages(killable: StartPrivate, name: str) -> None:
    broker = killable(name)
    url = broker.url_of("stomp")
    session = probe.Stomp(url)
    session.send("kept", "still here")
    if name == "rabbitmq":
        eventually(lambda: probe.rabbitmq_wrote(broker.place.folder, "kept"))
    broker.kill()
    with pytest.raises(OSError, match=r"closed the connection|reset by peer"):
        session.read("MESSAGE")
    session.close()
    assert not broker.alive
    assert not any(listening(port) for port in broker.place.ports.values())  # Erlang's epmd is gone too
    broker.restart()
    assert broker.url_of("stomp") == url
    with contextlib.closing(probe.Stomp(url)) as session:
        assert session.receive("kept") == "still here"
    assert broker.keeps is Keeps.ALL


async def test_a_killed_database_comes_back_without_holding_up_the_loop(start_private: StartPrivate) -> None:
    database = start_private("postgres")
    probe.postgres(database.url, "create table kept as select 42 as answer")
    database.kill()
    ticks = asyncio.create_task(asyncio.sleep(0.01))
    await database.restart_async()
    assert ticks.done()
    assert probe.postgres(database.url, "select answer from kept") == "42"
    await database.stop_async()
    assert not database.alive


def test_a_clean_stop_keeps_what_ministack_had(start_private: StartPrivate) -> None:
    stack = start_private("ministack")
    probe.aws(stack.url, "sqs", "AmazonSQS.CreateQueue", {"QueueName": "kept"})
    stack.restart()
    assert "kept" in str(probe.aws(stack.url, "sqs", "AmazonSQS.ListQueues", {}))
    assert stack.keeps is Keeps.IF_STOPPED


def test_a_frozen_server_says_nothing_until_it_thaws(start_private: StartPrivate) -> None:
    stack = start_private("ministack")
    stack.freeze()
    with pytest.raises(TimeoutError):
        probe.aws(stack.url, "sqs", "AmazonSQS.ListQueues", {}, timeout=0.3)
    stack.thaw()
    probe.aws(stack.url, "sqs", "AmazonSQS.ListQueues", {})
    stack.freeze()
    stack.stop()  # a frozen one can be stopped as well
    assert not stack.alive
    with pytest.raises(ServerError, match="does not run"):
        stack.freeze()


async def test_it_is_an_asynchronous_context_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MSGBUS_TEST_MOTO_ENDPOINT", raising=False)
    async with server("moto") as moto:
        assert isinstance(moto, Server)
        assert glue(moto.url) == "hello"
    assert not moto.alive
    assert not moto.place.folder.exists()


# Nothing stays behind

OWNER = """
import sys, time
from tests.servers import private_server
one = private_server("ministack")
one.start()
print(one.process.pid, one.process.guard, one.place.folder, flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, None], ids=["term", "kill", "exit"])
def test_a_server_ends_with_its_owner(start_private: StartPrivate, number: signal.Signals | None) -> None:
    start_private("ministack").close()  # installed, or skipped
    command = [sys.executable, "-c", OWNER]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        pid, guard, folder = owner.stdout.readline().split()
        assert Path("/proc", pid).exists()
        if number is not None:
            owner.send_signal(number)
        owner.communicate()
    eventually(lambda: ended(pid) and ended(guard) and not Path(folder).exists())


def ended(pid: str) -> bool:
    """Whether a process is gone; one that nobody has collected yet counts as gone."""
    try:
        return Path("/proc", pid, "stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def test_a_server_ends_with_its_guard(start_private: StartPrivate) -> None:
    stack = start_private("ministack")
    assert stack.process is not None
    os.kill(stack.process.guard, signal.SIGKILL)
    eventually(lambda: not listening(stack.place.ports["http"]))
    assert not stack.alive


# What can't be had, and what is not ours


def test_a_server_of_the_environment_is_used_and_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MSGBUS_TEST_RABBITMQ_URL", "amqp://me:secret@broker.example:5672/")
    monkeypatch.delenv("MSGBUS_TEST_RABBITMQ_STOMP_URL", raising=False)
    with server("rabbitmq") as rabbit:
        assert rabbit.url == "amqp://me:secret@broker.example:5672/"
        for action in (rabbit.kill, rabbit.stop, rabbit.restart, rabbit.freeze, rabbit.thaw):
            with pytest.raises(NotOursError, match="given by MSGBUS_TEST_RABBITMQ_URL"):
                action()
        with pytest.raises(UnavailableError, match="MSGBUS_TEST_RABBITMQ_STOMP_URL is not set"):
            rabbit.url_of("stomp")


def test_the_real_service_needs_no_endpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MSGBUS_TEST_AWS_ENDPOINT", "aws")
    assert server("ministack").env == {}


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(ServerError, match=r"no server 'rabbit'; there are: ministack, .*rabbitmq"):
        definition("rabbit")


def test_what_is_missing_skips_but_fails_in_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    error = UnavailableError("no such package")
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="no such package"):
        give_up(error)
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="nothing is skipped: no such package"):
        give_up(error)


def test_a_failed_start_shows_the_log() -> None:
    broken = dataclasses.replace(
        definition("ministack"), needs=(), command=lambda _: [sys.executable, "-c", "print('no luck today')"]
    )
    with (
        pytest.raises(StartError, match="ended while it started; its log:\nno luck today"),
        Server.new(broken),
    ):
        pass
    missing = dataclasses.replace(broken, command=lambda _: ["/nowhere/server"])
    with pytest.raises(StartError, match="/nowhere/server"), Server.new(missing):
        pass
    silent = dataclasses.replace(broken, command=lambda _: ["sleep", "60"], deadline=0.2)
    with pytest.raises(StartError, match=r"not ready in 0\.2 s"), Server.new(silent):
        pass


def test_several_start_together_and_all_end(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ministack", "moto"):
        for each in DEFINITIONS[name].endpoints.values():
            monkeypatch.delenv(each.variable, raising=False)
    with servers("ministack", "moto") as by_name:
        assert all(each.alive for each in by_name.values())
    assert not any(each.alive for each in by_name.values())


# Installing


class Slow:
    """A need whose install takes a while, and counts."""

    label = "slow"

    def __init__(self, folder: Path) -> None:
        self.lock = folder / "lock"
        self.installs = 0

    def present(self) -> bool:
        return self.installs > 0

    def install(self) -> None:
        time.sleep(0.1)
        self.installs += 1


def test_two_at_a_time_install_once(tmp_path: Path) -> None:
    need = Slow(tmp_path)
    with ThreadPoolExecutor() as threads:
        for each in [threads.submit(ensure, [need]) for _ in range(4)]:
            each.result()
    assert need.installs == 1


def test_a_failed_install_says_why() -> None:
    with pytest.raises(UnavailableError, match=r"thing can't be installed: `sh -c .*ended with 3: no network"):
        run("thing", ["sh", "-c", "echo no network; exit 3"])
    with pytest.raises(UnavailableError, match=r"thing can't be installed: .*nowhere"):
        run("thing", ["/nowhere/pip"])


def test_no_service_starts_during_an_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    policy = tmp_path / "policy-rc.d"
    monkeypatch.setattr(packages, "_POLICY", policy)
    with packages.no_services():
        assert subprocess.run([policy, "rabbitmq-server", "start"], check=False).returncode == 101
    assert not policy.exists()
    with packages.no_services(), packages.no_services():  # one that was there before is not touched
        pass
    policy.write_text("#!/bin/sh\nexit 0\n")
    policy.chmod(0o755)
    with (
        pytest.raises(UnavailableError, match="would let the install start services"),
        packages.no_services(),
    ):
        pass
    assert policy.exists()


# The command line


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., int]]:
    monkeypatch.setattr(state, "BASE", tmp_path)
    for name in NAMES:
        for each in DEFINITIONS[name].endpoints.values():
            monkeypatch.delenv(each.variable, raising=False)
    yield lambda *arguments: main(arguments)
    main(["stop"])


def test_the_command_line(cli: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli("start", "ministack") == 0
    export = capsys.readouterr().out
    assert export.startswith("export MSGBUS_TEST_AWS_ENDPOINT=http://127.0.0.1:")
    assert "\nexport AWS_ENDPOINT_URL=http://127.0.0.1:" in export
    assert "\nexport AWS_ACCESS_KEY_ID=" in export
    assert cli("status", "ministack") == 0
    assert "runs as process" in capsys.readouterr().out
    assert cli("kill", "ministack") == 0
    assert cli("status", "ministack") == 0
    assert "is down" in capsys.readouterr().out
    assert cli("restart", "ministack") == 0
    assert capsys.readouterr().out == export
    assert cli("stop") == 0
    assert cli("kill", "ministack") == 1
    assert "was not started here" in capsys.readouterr().err


def test_the_command_line_refuses_what_it_did_not_start(
    cli: Callable[..., int], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MSGBUS_TEST_AWS_ENDPOINT", "http://stack.example:4566")
    assert cli("start", "ministack") == 0
    assert cli("kill", "ministack") == 1
    assert "given by MSGBUS_TEST_AWS_ENDPOINT" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        cli("start")
    with pytest.raises(SystemExit):
        cli("start", "rabbit")


def test_workers_that_ask_at_once_get_the_same_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that started twice would be stopped once."""
    asked: list[str] = []

    def started(name: str) -> Handle:
        asked.append(name)
        return Shared(definition(name), {})

    monkeypatch.setattr(fixtures, "_started", started)
    many, submit = fixtures.Pool(), fixtures.Pool()._threads.submit

    def slowly(*what: Any) -> Any:
        time.sleep(0.05)  # the others look meanwhile
        return submit(*what)

    monkeypatch.setattr(many._threads, "submit", slowly)
    with ThreadPoolExecutor(8) as threads:
        handles = list(threads.map(many.get, ["moto"] * 8))
    assert asked == ["moto"]
    assert len(set(map(id, handles))) == 1
