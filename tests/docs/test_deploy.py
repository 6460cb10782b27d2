"""docs/how-to/deploy.md: the commands of the image and of both manifests run, are probed, and stop as it says."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

import pytest
import yaml
from tests.docs.blocks import ROOT, blocks_of
from tests.slowness import slowness

from msgbus.brokers.mq.rabbitmq import queue_of
from msgbus.brokers.sqs.names import queue_name
from msgbus.message import Address

PAGE = ROOT / "docs/how-to/deploy.md"
FILES = {block.file: block.text for block in blocks_of(PAGE) if block.file}
TASK: dict[str, Any] = json.loads(FILES["task.json"])
POD: dict[str, Any] = yaml.safe_load(FILES["deployment.yaml"])["spec"]["template"]["spec"]
(ECS,) = TASK["containerDefinitions"]
(KUBERNETES,) = POD["containers"]
ENDING = 20
"""Seconds that the page adds to the grace."""


def image_command() -> list[str]:
    found = re.search(r"^CMD (.*)$", FILES["Dockerfile"], re.MULTILINE)
    assert found is not None
    command: list[str] = json.loads(found.group(1))
    return command


COMMANDS = [image_command(), KUBERNETES["args"], ECS["command"]]


def test_all_say_the_same() -> None:
    assert COMMANDS[0] == COMMANDS[1] == COMMANDS[2]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop/app.py").write_text(FILES["shop/app.py"])
    return tmp_path


@contextmanager
def running(folder: Path, *prefix: str, **variables: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """The image's command, on a free port; (process, port)."""
    name, *arguments = (word.replace("0.0.0.0:8080", "127.0.0.1:0") for word in image_command())
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    with subprocess.Popen(
        [*prefix, name, *arguments], cwd=folder, env={**os.environ, "PATH": path, **variables},
        text=True, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        try:
            yield process, port_of(process)
        finally:
            process.kill()


def port_of(process: subprocess.Popen[str]) -> int:
    """When it consumes."""
    port = 0
    for line in lines_of(process):
        port = int(line.get("port", port))
        if line["message"].startswith("consuming"):
            return port
    raise AssertionError("it never consumed")


def lines_of(process: subprocess.Popen[str]) -> Iterator[dict[str, Any]]:
    assert process.stderr is not None
    return (json.loads(line) for line in process.stderr)


def status(port: int, path: str) -> int:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
            return int(answer.status)
    except HTTPError as error:
        error.close()
        return int(error.code)


def test_it_is_probed_and_stops(folder: Path) -> None:
    with running(folder) as (process, port):
        for probe in ("livenessProbe", "readinessProbe"):
            assert status(port, KUBERNETES[probe]["httpGet"]["path"]) == 200
        assert ecs_check(port).returncode == 0
        process.terminate()
        assert [line["message"] for line in lines_of(process)][-1] == "stopped"
        assert process.wait(30 * slowness()) == 0
        assert ecs_check(port).returncode != 0


def ecs_check(port: int) -> subprocess.CompletedProcess[bytes]:
    """The health check of the task, as ECS runs it in the container."""
    kind, name, *arguments = ECS["healthCheck"]["command"]
    assert (kind, name) == ("CMD", "python")
    command = [sys.executable, *(word.replace(":8080", f":{port}") for word in arguments)]
    return subprocess.run(command, capture_output=True, check=False, timeout=30 * slowness())


def can_be_first() -> bool:
    """Whether this machine lets us start a process 1."""
    unshare = shutil.which("unshare")
    return unshare is not None and not subprocess.run([unshare, *AS_FIRST, "true"], capture_output=True).returncode


AS_FIRST: Sequence[str] = ("--fork", "--pid", "--kill-child")


@pytest.mark.skipif(not can_be_first(), reason="making a process 1 needs root and Linux")
def test_as_process_one_it_takes_its_signals(folder: Path) -> None:
    with running(folder, "unshare", *AS_FIRST) as (process, _):
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        os.kill(int(children[0]), 15)
        assert [line["message"] for line in lines_of(process)][-1] == "stopped"
        assert process.wait(30 * slowness()) == 0


def grace_of(container: dict[str, Any]) -> float:
    variables = container.get("env") or container["environment"]
    return float({each["name"]: each.get("value") for each in variables}["MSGBUS_GRACE"])


def test_what_stops_it_waits_long_enough() -> None:
    assert POD["terminationGracePeriodSeconds"] >= grace_of(KUBERNETES) + ENDING
    assert 120 >= ECS["stopTimeout"] >= grace_of(ECS) + ENDING
    assert f"waits {ENDING} s longer than that" in PAGE.read_text()


def test_probes_ask_the_port_that_is_served() -> None:
    (port,) = KUBERNETES["ports"]
    assert f":{port['containerPort']}" in KUBERNETES["args"][4]
    assert {KUBERNETES[probe]["httpGet"]["port"] for probe in ("livenessProbe", "readinessProbe")} == {port["name"]}


def test_what_is_scaled_is_what_is_deployed_on_the_queue_that_it_reads() -> None:
    scaled = yaml.safe_load(FILES["scaling.yaml"])["spec"]
    assert scaled["scaleTargetRef"]["name"] == yaml.safe_load(FILES["deployment.yaml"])["metadata"]["name"]
    address = Address("topic", "orders", "billing")
    (trigger,) = scaled["triggers"]
    assert trigger["metadata"]["queueURL"].endswith("/" + queue_name(address, ordered=False))
    assert yaml.safe_load(FILES["rabbitmq.yaml"])["metadata"]["queueName"] == queue_of(address)
