"""A JMS program beside the tests: ActiveMQ's own Java client, driven line by line."""

from __future__ import annotations

import base64
import glob
import shutil
import subprocess
from pathlib import Path

import pytest
from tests.servers import Handle

_JARS = "/usr/share/activemq/lib"
_SOURCE = Path(__file__).with_name("Peer.java")


class Peer:
    """`peer.send("orders", "text", body="...")`: fields as keywords; properties of JMS as `property_NAME`."""

    def __init__(self, server: Handle) -> None:
        java = shutil.which("java")
        if java is None or not glob.glob(f"{_JARS}/activemq-client.jar"):
            pytest.skip("there is no Java, or no ActiveMQ client")
        jars = ":".join(sorted(glob.glob(f"{_JARS}/*.jar")))
        self._process = subprocess.Popen(
            [java, "-Xmx256m", "-cp", jars, str(_SOURCE), server.url_of("openwire")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert self._line() == "ready"

    def close(self) -> None:
        """It ends when nothing more can come."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(30)
        self._process.stdout.close()

    def _line(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline().rstrip("\n")
        assert line, "the Java program has ended"
        return line

    def run(self, **fields: str) -> dict[str, str]:
        """One command; what it told."""
        assert self._process.stdin is not None
        named = {name.replace("property_", "property.", 1): value for name, value in fields.items()}
        line = "\t".join(f"{name}={base64.b64encode(value.encode()).decode()}" for name, value in named.items())
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()
        told = dict(field.split("=", 1) for field in self._line().split("\t"))
        answer = {name: base64.b64decode(value).decode() for name, value in told.items()}
        assert "error" not in answer, answer["error"]
        return answer

    def send(self, queue: str, kind: str, **fields: str) -> str:
        """Its JMSMessageID."""
        return self.run(do="send", queue=queue, kind=kind, **fields)["id"]
