"""An environment without anyone's AWS configuration, the emulator, and both event loops."""

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import uvloop
from tests import awsenv
from tests.servers.fixtures import ministack, server_pool

__all__ = ["ministack", "server_pool"]


@pytest.fixture(autouse=True)
def aws_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    awsenv.use(monkeypatch, tmp_path, "eu-west-1")


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Each test on both: transports, sockets and cancellations of uvloop are its own."""
    return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}
