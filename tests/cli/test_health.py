"""The health server and its client, without processes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from msgbus import ConfigError, Health
from msgbus.cli.health import Place, ask, respond, serving

GOOD = Health(True, True)
SICK = Health(True, False, ("amqp://user:secret@host: gone",))
DEAD = Health(False, False, ("queue work: it died",))


def reporting(health: Health) -> Callable[[], Awaitable[Health]]:
    async def report() -> Health:
        return health

    return report


@pytest.mark.parametrize(
    ("head", "health", "status"),
    [
        (b"GET /live HTTP/1.1\r\n\r\n", GOOD, 200),
        (b"GET /ready?verbose HTTP/1.1\r\n\r\n", GOOD, 200),
        (b"GET /live HTTP/1.1\r\n\r\n", SICK, 200),
        (b"GET /ready HTTP/1.1\r\n\r\n", SICK, 503),
        (b"GET /live HTTP/1.1\r\n\r\n", DEAD, 503),
        (b"GET / HTTP/1.1\r\n\r\n", GOOD, 404),
        (b"POST /live HTTP/1.1\r\n\r\n", GOOD, 405),
        (b"nonsense\r\n\r\n", GOOD, 404),
    ],
)
async def test_answers(head: bytes, health: Health, status: int) -> None:
    top, _, body = (await respond(head, reporting(health))).partition(b"\r\n\r\n")
    assert top.startswith(f"HTTP/1.1 {status} ".encode())
    assert f"Content-Length: {len(body)}".encode() in top
    assert json.loads(body)


async def test_head_has_no_body_and_credentials_are_not_shown() -> None:
    assert (await respond(b"HEAD /ready HTTP/1.1\r\n\r\n", reporting(GOOD))).endswith(b"\r\n\r\n")
    answer = await respond(b"GET /ready HTTP/1.1\r\n\r\n", reporting(SICK))
    assert b"secret" not in answer
    assert b"amqp://***@host: gone" in answer


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("8080", Place("127.0.0.1", 8080)),
        ("0.0.0.0:80", Place("0.0.0.0", 80)),  # noqa: S104 - what the user wrote
        ("[::1]:80", Place("::1", 80)),
        ("unix:/run/x", Place(path="/run/x")),
    ],
)
def test_places(text: str, place: Place) -> None:
    assert Place.parse(text) == place


@pytest.mark.parametrize("text", ["", "localhost", "localhost:http", "1:70000", "-1"])
def test_places_that_are_none(text: str) -> None:
    with pytest.raises(ConfigError, match="--health"):
        Place.parse(text)


async def test_a_worker_is_asked_over_its_socket(tmp_path: Path) -> None:
    path = str(tmp_path / "worker")
    assert await ask(path) == Health(True, False, ("not running yet",))
    async with serving(Place(path=path), reporting(SICK)):
        assert await ask(path) == Health(True, False, ("amqp://***@host: gone",))


async def test_a_worker_that_hangs_is_not_live(tmp_path: Path) -> None:
    path = str(tmp_path / "worker")
    hung = asyncio.Event()

    async def report() -> Health:
        await hung.wait()
        return GOOD

    async with serving(Place(path=path), report):
        assert await ask(path, patience=0.1) == Health(False, False, ("no answer within 0.1 s",))
        hung.set()


async def test_whoever_speaks_no_http_is_let_go() -> None:
    async with serving(None, reporting(GOOD)):
        pass
    seen: list[asyncio.Server] = []

    class Listening(Place):
        async def listen(self, answer: Callable[..., None]) -> asyncio.Server:
            seen.append(await super().listen(answer))
            return seen[0]

    async with serving(Listening(), reporting(GOOD)):
        for words in (b"", b"x" * 20_000):
            reader, writer = await asyncio.open_connection(*seen[0].sockets[0].getsockname()[:2])
            writer.write(words)
            writer.write_eof()
            assert await reader.read() == b""
            writer.close()
            await writer.wait_closed()
