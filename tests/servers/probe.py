"""Clients of a few lines, to see that a server really answers. Not for anything that is measured."""

import base64
import http.client
import json
import socket
import struct
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, urlsplit

# Emulators read the region and the service from the signature's scope, and don't check the signature.
_SCOPE = "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/{}/aws4_request, SignedHeaders=host, Signature=0"


def connect(url: str, timeout: float = 10.0) -> socket.socket:
    """A TCP connection to the host and port of a URL; `timeout` in seconds holds for each later call too."""
    parts = urlsplit(url)
    return socket.create_connection((str(parts.hostname), int(parts.port or 0)), timeout=timeout)


def aws(url: str, service: str, target: str, request: dict[str, Any], timeout: float = 10.0) -> dict[str, Any]:
    """One call in AWS's JSON protocol, such as target `AmazonSQS.SendMessage`."""
    version = "1.0" if service == "sqs" else "1.1"
    headers = {
        "Content-Type": f"application/x-amz-json-{version}",
        "X-Amz-Target": target,
        "X-Amz-Date": "20260101T000000Z",
        "Authorization": _SCOPE.format(service),
    }
    return _http(urlsplit(url), "POST", headers, json.dumps(request), timeout)


def management(url: str, path: str) -> dict[str, Any]:
    """GET from RabbitMQ's management API, with the account in the URL."""
    parts = urlsplit(url)
    account = base64.b64encode(f"{parts.username}:{parts.password}".encode()).decode()
    return _http(parts, "GET", {"Authorization": f"Basic {account}"}, None, 10.0, path)


def _http(
    to: SplitResult, method: str, headers: dict[str, str], body: str | None, timeout: float, path: str = "/"
) -> dict[str, Any]:
    connection = http.client.HTTPConnection(str(to.hostname), to.port, timeout=timeout)
    try:
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        content = response.read()
    finally:
        connection.close()
    if response.status >= 300:
        raise OSError(f"{method} {path} was answered with {response.status}: {content[:300]!r}")
    answer: dict[str, Any] = json.loads(content or b"{}")
    return answer


class Stomp:
    """A STOMP 1.2 session: enough to send, subscribe and read frames."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._socket = connect(url)
        self._buffer = b""
        account = {"login": parts.username, "passcode": parts.password or ""} if parts.username else {}
        self.write("CONNECT", {"accept-version": "1.2", "host": "/", **account})
        self.read("CONNECTED")

    def write(self, command: str, headers: dict[str, str], body: str = "") -> None:
        """Sends one frame."""
        lines = "".join(f"{name}:{value}\n" for name, value in headers.items())
        self._socket.sendall(f"{command}\n{lines}\n{body}\0".encode())

    def read(self, command: str) -> str:
        """Waits for the next frame, which must be of this command; returns its body."""
        while b"\0" not in self._buffer:
            chunk = self._socket.recv(4096)
            if not chunk:
                raise ConnectionError("the server closed the connection")
            self._buffer += chunk
        frame, _, self._buffer = self._buffer.partition(b"\0")
        head, _, body = frame.decode().lstrip("\n").replace("\r\n", "\n").partition("\n\n")
        if not head.startswith(f"{command}\n"):
            raise ConnectionError(f"expected {command}, got {head!r} {body!r}")
        return body

    def send(self, queue: str, body: str) -> None:
        """A persistent message, confirmed by the server."""
        self.write("SEND", {"destination": f"/queue/{queue}", "persistent": "true", "receipt": "r"}, body)
        self.read("RECEIPT")

    def receive(self, queue: str) -> str:
        """Subscribes and takes the next message."""
        self.write("SUBSCRIBE", {"destination": f"/queue/{queue}", "id": "s", "ack": "auto"})
        return self.read("MESSAGE")

    def close(self) -> None:
        """Drops the connection."""
        self._socket.close()


def rabbitmq_wrote(folder: Path, queue: str) -> bool:
    """Whether the definition of a durable queue is safe in the files of the RabbitMQ in this folder.

    Its database logs the definition, and that it is committed a moment later, without waiting for the latter: a
    node killed in between comes back without the queue and its messages, confirmed ones too. A test that kills
    waits for this first, unless that moment is its subject.
    """
    tables = [each for ending in ("DCL", "DCD") for each in folder.glob(f"mnesia/*/*.{ending}")]
    logs = [each.read_bytes().rpartition(queue.encode()) for each in folder.glob("mnesia/*/*.LOG")]
    logged = any(found and b"committed" in after for _, found, after in logs)
    return logged or any(queue.encode() in each.read_bytes() for each in tables)


def amqp_greeting(url: str) -> bytes:
    """Opens an AMQP 0-9-1 connection; returns the payload of the server's first frame, `connection.start`."""
    with connect(url) as connection, connection.makefile("rb") as stream:
        connection.sendall(b"AMQP\x00\x00\x09\x01")
        _, _, size = struct.unpack("!BHI", stream.read(7))
        return stream.read(size)


def postgres(url: str, statement: str) -> str:
    """Runs one statement in PostgreSQL's simple protocol; returns the first column of the last row, or ""."""
    parts = urlsplit(url)
    fields = f"user\0{parts.username}\0database\0{parts.path[1:]}\0\0".encode()
    query = statement.encode() + b"\0"
    value = ""
    with connect(url) as connection, connection.makefile("rb") as stream:
        connection.sendall(struct.pack("!ii", 8 + len(fields), 3 << 16) + fields)
        connection.sendall(b"Q" + struct.pack("!i", 4 + len(query)) + query)
        ready = 0
        while ready < 2:  # once after the start, once after the statement
            kind, size = struct.unpack("!ci", stream.read(5))
            payload = stream.read(size - 4)
            ready += kind == b"Z"
            if kind == b"E":
                raise OSError(payload.replace(b"\0", b" ").decode())
            if kind == b"D":
                value = payload[6:].decode()
    return value
