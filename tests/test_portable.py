"""One service, many brokers: what runs on the embedded broker runs unchanged wherever MSGBUS_URL leads."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import uuid
from pathlib import Path

import pytest
from tests.servers import Handle
from tests.slowness import slowness

ROOT = Path(__file__).parent.parent

URLS = {"ministack": "sqs://", "fauxqs": "sqs://"}
"""Where the server's own URL is not the broker's: the endpoint is in the client's environment."""

SERVERS = ["ministack", "fauxqs", "rabbitmq", "activemq"]


@pytest.fixture
def environment(request: pytest.FixtureRequest) -> dict[str, str]:
    """Of a process whose bus is on the server that the test names."""
    server: Handle = request.getfixturevalue(request.param)
    ours = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    prefix = f"t{uuid.uuid4().hex[:8]}-"  # the tests share servers, and not all orders are kept in order
    return {**ours, **server.env, "MSGBUS_URL": URLS.get(server.name, server.url), "MSGBUS_PREFIX": prefix}


@pytest.mark.parametrize("environment", SERVERS, indirect=True)
def test_the_first_example(environment: dict[str, str], tmp_path: Path) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)[:1]
    script = tmp_path / "first.py"
    script.write_text(code)
    assert sorted(run(environment, str(script))) == ["charging ada 9.90", "lamp costs 19.90"]


@pytest.mark.timeout(120)
@pytest.mark.parametrize("environment", ["fauxqs", "rabbitmq", "activemq"], indirect=True)
def test_the_order_shop_loses_nothing(environment: dict[str, str]) -> None:
    lines = run(environment, "-m", "examples.shop.demo", "--plain", "--seconds", "2", "--rate", "50")
    assert lines[-1] == "✔ lost 0, out of order 0"


def run(environment: dict[str, str], *arguments: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=110 * slowness(),
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return [line for line in done.stdout.splitlines() if line]
