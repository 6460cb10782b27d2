"""`msgbus run` as real processes: signals, workers, reload, health, exit codes."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from asyncio.subprocess import PIPE
from pathlib import Path

import pytest
from tests.cli.process import ROOT, msgbus, running

from msgbus.cli.service import run_loop
from msgbus.cli.watchdog import EXIT

SERVICE = "tests.cli.shared:bus"


@pytest.mark.parametrize("installed", [True, False])
def test_uvloop_where_it_is_installed(monkeypatch: pytest.MonkeyPatch, installed: bool) -> None:
    async def is_uvloop() -> int:
        return int(type(asyncio.get_running_loop()).__module__ == "uvloop")

    pytest.importorskip("uvloop")
    if not installed:
        monkeypatch.setitem(sys.modules, "uvloop", None)
    assert run_loop(is_uvloop()) == int(installed)


@pytest.fixture
def shared(tmp_path: Path) -> dict[str, str]:
    """The environment of a broker that processes share."""
    return {"MSGBUS_URL": f"spool://{tmp_path}/spool"}


def spooled(shared: dict[str, str], queue: str) -> list[Path]:
    """The messages that wait there."""
    return [*Path(shared["MSGBUS_URL"].removeprefix("spool://"), queue).glob("*.json")]


async def publish(shared: dict[str, str], *jobs: tuple[str, str]) -> None:
    """Send jobs, from a process of its own."""
    lines = "\n".join(json.dumps({"name": name, "do": do}) for name, do in jobs)
    code, _, err = await msgbus("publish", "tests.cli.shared:jobs", "-", environment=shared, given=lines.encode())
    assert code == 0, err


async def test_it_says_where_it_reads_and_what_looks_misspelt(shared: dict[str, str]) -> None:
    environment = {**shared, "MSGBUS_GARCE": "5", "MSGBUS_ROUTES": json.dumps({"jbos": shared["MSGBUS_URL"]})}
    async with running("run", SERVICE, environment=environment) as service:
        await service.until("consuming", subscriptions=2)
        await service.until("on spool://")
        service.process.send_signal(signal.SIGTERM)
        assert await service.end(None) == 0
        said = "\n".join(service.messages())
    assert "MSGBUS_GARCE is no setting of msgbus: is MSGBUS_GRACE meant?" in said
    assert "MSGBUS_ROUTES names 'jbos'" in said
    assert "is jobs meant?" in said
    assert "queue jobs" in said
    assert "MSGBUS_URL is not set" not in said


async def test_a_broker_that_nobody_asked_for_is_said() -> None:
    async with running("run", SERVICE, environment={}) as service:
        await service.until("MSGBUS_URL is not set")
        service.process.send_signal(signal.SIGTERM)
        assert await service.end(None) == 0


async def test_sigterm_lets_running_handlers_finish(shared: dict[str, str], tmp_path: Path) -> None:
    pipe = str(tmp_path / "pipe")
    os.mkfifo(pipe)
    async with running("run", SERVICE, environment=shared) as service:
        await service.until("consuming", subscriptions=2)
        await publish(shared, (pipe, "finish"))
        await service.until("began", job=pipe)
        service.process.send_signal(signal.SIGTERM)
        await service.until("stopping")
        await asyncio.to_thread(Path(pipe).write_bytes, b"go on")
        assert await service.end(None) == 0
        assert service.messages()[-3:] == ["stopping: up to 30 s for running handlers", "done", "stopped"]


async def test_what_is_there_at_the_start_is_set_aside_from_garbage_collection(shared: dict[str, str]) -> None:
    async with running("run", SERVICE, environment=shared) as service:
        await service.until("consuming")
        await publish(shared, ("it", "count"))
        line = await service.until("set aside")
        assert line["objects"] > 10_000


async def test_a_second_sigint_cancels_them(shared: dict[str, str]) -> None:
    async with running("run", SERVICE, environment=shared) as service:
        await service.until("consuming")
        await publish(shared, ("stuck", "wait"))
        await service.until("began", job="stuck")
        service.process.send_signal(signal.SIGINT)
        await service.until("stopping")
        assert await service.end(signal.SIGINT) == 0
        assert "told to stop again: cancelling running handlers" in service.messages()
    assert len(spooled(shared, "queue+jobs")) == 1  # given back, not lost


async def test_the_grace_period_ends_by_itself(shared: dict[str, str]) -> None:
    async with running("run", SERVICE, "--grace", "0.05", environment=shared) as service:
        await service.until("consuming")
        await publish(shared, ("stuck", "wait"))
        await service.until("began", job="stuck")
        assert await service.end(signal.SIGTERM) == 0
        assert service.messages()[-1] == "stopped"


@pytest.mark.parametrize(("how", "signals"), [("ignore", 1), ("ignore", 2), ("block", 1)])
async def test_a_handler_that_can_t_be_stopped_is_given_up(shared: dict[str, str], how: str, signals: int) -> None:
    grace = "0.1" if signals == 1 else "3600"
    async with running("run", SERVICE, "--grace", grace, environment=shared) as service:
        await service.until("consuming")
        await publish(shared, ("stuck", how))
        await service.until("began", job="stuck")
        if signals == 2:
            service.process.send_signal(signal.SIGTERM)
            await service.until("stopping")
        assert await service.end(signal.SIGTERM) == EXIT
        assert service.messages()[-1].endswith("s, given up: 1 in hand of queue jobs")


THREADED = """
import threading
from contextlib import asynccontextmanager
from msgbus import Bus, Depends, Queue

jobs = Queue("jobs", str)

@asynccontextmanager
async def lifespan(bus):
    await bus.send(jobs, "stuck")
    yield

bus = Bus("memory://", lifespan=lifespan)

def wait() -> None:
    import logging
    logging.getLogger("service").info("began")
    threading.Event().wait()
"""

HANDLER = """
@bus.consumer(jobs)
def work(job: str) -> None:
    wait()
"""

DEPENDENCY = """
@bus.consumer(jobs)
async def work(job: str, given: None = Depends(wait)) -> None: ...
"""


async def test_a_dependency_that_does_not_end_in_its_thread_is_given_up_too(tmp_path: Path) -> None:
    (tmp_path / "threaded.py").write_text(THREADED + DEPENDENCY)
    async with running("run", "threaded:bus", "--grace", "0.1", cwd=tmp_path) as service:
        await service.until("began")
        assert await service.end(signal.SIGTERM) == EXIT
        assert service.messages()[-1].endswith("s, given up: the thread 'AnyIO worker thread'")


async def test_a_thread_that_does_not_end_is_given_up_too(tmp_path: Path) -> None:
    """The stop is over, and Python would wait for it for ever."""
    (tmp_path / "threaded.py").write_text(THREADED + HANDLER)
    async with running("run", "threaded:bus", "--grace", "0.1", cwd=tmp_path) as service:
        await service.until("began")
        assert await service.end(signal.SIGTERM) == EXIT
        said = service.messages()
        assert "queue jobs: work still runs in its thread: the process does not end before it" in said
        assert "stopped" in said
        assert said[-1].endswith("s, given up: the thread 'msgbus queue jobs_0'")


INTERRUPTED = """
import importlib.abc, os, signal, sys

module = sys.argv[1]

class Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name == module:
            os.kill(os.getpid(), signal.SIGINT)

signal.signal(signal.SIGINT, signal.default_int_handler)  # it is ignored below what a shell started in the background
sys.meta_path.insert(0, Finder())
import msgbus_cli
sys.argv = ["msgbus", "run", "tests.cli.shared:bus"]
msgbus_cli.main()
"""


@pytest.mark.parametrize("module", ["msgbus", "typer", "tests.cli.service"])
async def test_ctrl_c_while_it_starts_is_no_traceback(shared: dict[str, str], module: str) -> None:
    script = [sys.executable, "-c", INTERRUPTED, module]
    process = await asyncio.create_subprocess_exec(*script, env=os.environ | shared, cwd=ROOT, stderr=PIPE)
    try:
        _, said = await process.communicate()
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
    assert said.strip() in (b"", b"interrupted")
    assert process.returncode in (-signal.SIGINT, 130)


async def test_a_consumer_that_dies_is_an_exit_code(tmp_path: Path) -> None:
    (tmp_path / "doomed.py").write_text(DOOMED)
    async with running("run", "doomed:bus", cwd=tmp_path) as service:
        assert await service.end(None) == 1
        (line,) = [line for line in service.lines if line["message"] == "a consumer died"]
        assert "ZeroDivisionError: the receiver is broken" in line["exception"]


DOOMED = """
import msgbus
from msgbus.brokers.memory.broker import MemoryReceiver

bus = msgbus.Bus()

@bus.consumer(msgbus.Queue("jobs", str))
async def work(job: str) -> None: ...

async def receive(self, limit, wait):
    raise ZeroDivisionError("the receiver is broken")

MemoryReceiver.receive = receive
"""


async def test_stopped_while_it_connects(tmp_path: Path) -> None:
    (tmp_path / "unreachable.py").write_text(UNREACHABLE)
    async with running("run", "unreachable:bus", cwd=tmp_path) as service:
        await service.until("memory://: can't connect")
        assert await service.end(signal.SIGTERM) == 0


UNREACHABLE = """
import msgbus
from msgbus.brokers.memory import MemoryBroker

bus = msgbus.Bus()

@bus.consumer(msgbus.Queue("jobs", str))
async def work(job: str) -> None: ...

async def connect(self):
    raise msgbus.Disconnected("nobody is there")

MemoryBroker.connect = connect
"""


async def test_health(shared: dict[str, str]) -> None:
    async with running("run", SERVICE, "--health", "0", environment=shared) as service:
        port = (await service.until("serving"))["port"]
        await service.until("consuming")
        assert await get(port, "/ready") == (200, {"live": True, "ready": True, "problems": []})
        assert (await get(port, "/live"))[0] == 200
        await publish(shared, ("stuck", "wait"))
        await service.until("began")
        service.process.send_signal(signal.SIGTERM)
        await service.until("stopping")
        assert await get(port, "/ready") == (503, {"live": True, "ready": False, "problems": ["stopping"]})
        assert (await get(port, "/live"))[0] == 200
        assert await service.end(signal.SIGTERM) == 0


async def get(port: int, path: str) -> tuple[int, dict[str, object]]:
    """The status and the JSON of a probe."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    await writer.wait_closed()
    return int(head.split()[1]), json.loads(body)


async def test_workers_share_the_work_and_are_started_again(shared: dict[str, str]) -> None:
    async with running("run", SERVICE, "--workers", "2", "--health", "0", environment=shared) as service:
        port = (await service.until("serving"))["port"]
        first = (await service.until("worker 1 started"))["worker_pid"]
        second = (await service.until("worker 2 started"))["worker_pid"]
        for _ in range(2):
            await service.until("consuming")
        assert await get(port, "/ready") == (200, {"live": True, "ready": True, "problems": []})
        await publish(shared, ("fatal", "die"))
        ended = await service.until("worker", exit_code=7)
        again = await service.until(f"worker {ended['worker']} started")
        assert again["worker_pid"] not in (first, second)
        await service.until("consuming", pid=again["worker_pid"])
        assert (await get(port, "/ready"))[0] == 200
        assert await service.end(signal.SIGTERM) == 0
        assert service.messages().count("stopped") == 2


async def test_workers_do_not_outlive_their_supervisor(shared: dict[str, str]) -> None:
    async with running("run", SERVICE, "--workers", "2", environment=shared) as service:
        for _ in range(2):
            await service.until("consuming")
        assert await service.end(signal.SIGKILL) == -signal.SIGKILL  # the log ends when its last writer does
        assert service.messages().count("the supervisor is gone") == 2
        assert service.messages().count("stopped") == 2


async def test_workers_that_can_never_start_end_it(shared: dict[str, str]) -> None:
    environment = {**shared, "MSGBUS_ROUTES": '{"jobs": "nonsense://"}'}
    code, _, err = await msgbus("run", SERVICE, "--workers", "2", environment=environment)
    assert code == 2
    assert "no broker for the scheme 'nonsense'" in err


async def test_workers_are_refused_on_a_broker_inside_the_process() -> None:
    code, _, err = await msgbus("run", SERVICE, "--workers", "2")
    assert code == 2
    assert err == (
        "error: --workers 2: memory:// lives inside one process, each worker would have messages of its own\n"
    )


async def test_reload(tmp_path: Path) -> None:
    app = tmp_path / "app.py"
    app.write_text(RELOADED.format(word="first"))
    async with running("run", "app:bus", "--reload", cwd=tmp_path) as service:
        await service.until("first")
        await service.until("consuming")
        app.write_text("this is no Python")
        await service.until("files have changed")
        await service.until("importing app failed")
        await service.until("worker 1 ended")
        app.write_text(RELOADED.format(word="second"))
        await service.until("second")
        await service.until("consuming")
        assert await service.end(signal.SIGINT) == 0
        assert service.messages()[-1] == "stopped"


RELOADED = """
import logging
import msgbus

logging.getLogger("app").info("{word}")
bus = msgbus.Bus()

@bus.consumer(msgbus.Queue("jobs", str))
async def work(job: str) -> None: ...
"""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--workers", "2", "--reload"), "--reload is for development with one process"),
        (("--health", "localhost"), "write PORT or HOST:PORT"),
        (("--health", "127.0.0.1:99999"), "with a port of 0 to 65535"),
    ],
)
async def test_what_can_not_be(arguments: tuple[str, ...], message: str) -> None:
    code, _, err = await msgbus("run", SERVICE, *arguments)
    assert code == 2
    assert message in err
    assert err.count("\n") == 1


async def test_a_taken_port_is_one_line(shared: dict[str, str]) -> None:
    server = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    code, _, err = await msgbus("run", SERVICE, "--health", str(port), environment=shared)
    server.close()
    assert code == 2
    assert f"can't listen on 127.0.0.1:{port}" in err


async def test_an_error_is_a_line_of_json_too() -> None:
    code, _, err = await msgbus("run", "tests.cli.service:empty", "--json-logs")
    assert code == 2
    assert json.loads(err)["message"].startswith("tests.cli.service:empty has no handlers")


@pytest.mark.skipif(os.name != "posix", reason="signals")
async def test_debug_shows_the_traceback() -> None:
    code, _, err = await msgbus("--debug", "run", "tests.cli.nothing:bus")
    assert code == 2
    assert "Traceback" in err
    assert "there is no module 'tests.cli.nothing'" in err
