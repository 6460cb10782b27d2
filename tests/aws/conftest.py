"""An environment without anyone's AWS configuration, and the emulator."""

from pathlib import Path

import pytest
from tests import awsenv
from tests.servers.fixtures import ministack, server_pool

__all__ = ["ministack", "server_pool"]


@pytest.fixture(autouse=True)
def aws_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    awsenv.use(monkeypatch, tmp_path, "eu-west-1")
