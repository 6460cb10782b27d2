"""Servers, and an environment without anybody's AWS configuration."""

from pathlib import Path

import pytest
from tests import awsenv
from tests.servers.fixtures import fauxqs, kinesis_local, ministack, server_pool

__all__ = ["fauxqs", "kinesis_local", "ministack", "server_pool"]


@pytest.fixture(autouse=True)
def aws_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The workers have it too. Cold calls are tried again by botocore, as its users have it."""
    awsenv.use(monkeypatch, tmp_path)
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "8")
