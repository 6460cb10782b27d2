"""What AMQP can't ask for: accounts, limits and alarms, over RabbitMQ's management API and its command."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import urllib.request
from typing import Any
from urllib.parse import quote, urlsplit

from tests.servers import Handle, Server

_CTL = "/usr/lib/rabbitmq/bin/rabbitmqctl"


async def manage(server: Handle, method: str, path: str, body: object = None) -> Any:
    """One call of the management API, as guest; the answer."""
    return await asyncio.to_thread(_call, server, method, path, body)


def _call(server: Handle, method: str, path: str, body: object) -> Any:
    parts = urlsplit(server.url_of("management"))
    request = urllib.request.Request(
        f"http://{parts.hostname}:{parts.port}/api/{path}",
        data=None if body is None else json.dumps(body).encode(),
        method=method,
        headers={
            "Authorization": "Basic " + base64.b64encode(b"guest:guest").decode(),
            "Content-Type": "application/json",
        },
    )
    with urllib.request.urlopen(request, timeout=20) as answer:  # noqa: S310
        text = answer.read()
    return json.loads(text) if text else None


async def add_user(server: Handle, name: str, password: str = "", *, configure: str = ".*", write: str = ".*") -> None:
    """A user of the virtual host `/`, who may read all. Without a password: by certificate alone."""
    account = {"password": password} if password else {"password_hash": ""}
    await manage(server, "PUT", f"users/{quote(name)}", {**account, "tags": ""})
    await manage(
        server, "PUT", f"permissions/%2F/{quote(name)}", {"configure": configure, "write": write, "read": ".*"}
    )


def account(server: Handle, who: str) -> str:
    """The server's URL with another account."""
    parts = urlsplit(server.url)
    return f"amqp://{who}@{parts.hostname}:{parts.port}/"


async def control(server: Server, *words: str) -> None:
    """rabbitmqctl on a private server."""
    environment = {**server.definition.environment(server.place), "PATH": os.environ["PATH"], "LANG": "C.UTF-8"}
    process = await asyncio.create_subprocess_exec(
        _CTL, *words, env=environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    told, _ = await process.communicate()
    assert process.returncode == 0, told.decode()
