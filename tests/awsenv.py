"""Environment variables of an AWS client in tests: keys of nobody, no files, no instance role, no proxy."""

from __future__ import annotations

from pathlib import Path

import pytest

SERVICES = ("SQS", "SNS", "S3", "KINESIS", "DYNAMODB", "EVENTS")
UNSET = (
    *("AWS_SESSION_TOKEN", "AWS_PROFILE", "AWS_ENDPOINT_URL", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"),
    *(f"AWS_ENDPOINT_URL_{service}" for service in SERVICES),
)


def aws_variables(folder: Path, region: str) -> dict[str, str]:
    """One attempt by botocore, so that a test sees what is tried again. `folder`: has no configuration files."""
    return {
        "AWS_ACCESS_KEY_ID": "AKIDTEST",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": region,
        "AWS_CONFIG_FILE": str(folder / "config"),
        "AWS_SHARED_CREDENTIALS_FILE": str(folder / "credentials"),
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_MAX_ATTEMPTS": "1",
        "NO_PROXY": "",
    }


def use(monkeypatch: pytest.MonkeyPatch, folder: Path, region: str = "us-east-1") -> None:
    """Set them for one test."""
    for name, value in aws_variables(folder, region).items():
        monkeypatch.setenv(name, value)
    for name in UNSET:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
