"""No secret is shown: however a URL is written, in errors, in logs, in a `repr`."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from msgbus import Bus
from msgbus.brokers import broker_for
from msgbus.brokers.amqp.settings import parse
from msgbus.brokers.hiding import parts_of, scrub, shown
from msgbus.clock import SystemClock
from msgbus.config import Settings, load_settings
from msgbus.errors import ConfigError

ODD = [
    "amqp://user:s3cr#3t@host/v",
    "amqp://user:s3cr/3t@host/v",
    "amqp://user:s3cr?3t@host/v",
    "amqp://user:s3cr@3t/x@host/v",
    "amqp://user:5#3t@host/v",
    "amqp://user:5?3t@host/v",
    "amqp:user:s3cr3t@host/v",
    "amqp://user:s3cr3t@[host/v",
    "stomp://user:s3cr#3t@one,other:s3cr3t@host/v",
]
"""Passwords with `3t` in them that no parser takes for a whole password, and a host."""


@pytest.mark.parametrize("url", ODD)
def test_a_url_whose_password_is_not_encoded_is_refused_and_not_shown(url: str) -> None:
    async def open_it() -> None:
        broker_for(url, SystemClock())

    with pytest.raises(ConfigError) as caught:
        asyncio.run(open_it())
    error: BaseException | None = caught.value
    while error is not None:
        assert "3t" not in str(error)
        assert "s3cr" not in str(error)
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def test_the_remedy_is_named() -> None:
    with pytest.raises(ConfigError, match=r"'amqp://host/v': .* percent-encoded: / is %2F"):
        parts_of(ODD[0])
    with pytest.raises(ConfigError, match="write amqp://, with both slashes"):
        parts_of("amqp:user:s3cr3t@host/v")


@pytest.mark.parametrize("url", ["amqp://[::1/", "stomp://[host]/", "sqs://[", "memory://[x", "kinesis://]"])
def test_a_malformed_host_is_a_setting_that_is_wrong(url: str) -> None:
    with pytest.raises(ConfigError, match="is no URL: an IPv6 address is written in brackets"):
        parts_of(url)


SECRETS = st.text(st.sampled_from("aZ09#/?@:%&=+!$[]"), min_size=4, max_size=12).map(lambda text: f"S3{text}S3")


@given(SECRETS)
def test_whatever_a_password_is_made_of_it_is_not_shown(secret: str) -> None:
    for url in (f"amqp://user:{secret}@host:5672/v?heartbeat=3", f"amqps:user:{secret}@host", f"user:{secret}@host"):
        assert "S3" not in shown(url)
        assert "S3" not in scrub(f"can't reach {url} now") or "://" not in url.replace(secret, "")
        with suppress(ConfigError):
            parts_of(url)
            continue
        with pytest.raises(ConfigError) as caught:
            parts_of(url)
        assert "S3" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("amqps://me:secret@host:5671/vhost?heartbeat=3", "amqps://host:5671/vhost"),
        ("amqp://a:b@one,two:1/v", "amqp://one,two:1/v"),
        ("amqp://a:b@[::1]:5672/v", "amqp://[::1]:5672/v"),
        ("kinesis://eu-west-1?leases=postgresql://u:p@db/x", "kinesis://eu-west-1"),
        ("spool:///a/b", "spool:///a/b"),
        ("memory://", "memory://"),
        ("nothing", "nothing"),
    ],
)
def test_what_is_shown(url: str, expected: str) -> None:
    assert shown(url) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a://me:secret@host is gone, b://c@d too", "a://***@host is gone, b://***@d too"),
        ("amqp://a:b@one,c:d@two/v", "amqp://***@two/v"),
        ("amqp://a:b#c/d?e@host", "amqp://***@host"),
        ("amqp:a:b@host", "amqp:***@host"),
        ("x?url=amqp%3A%2F%2Fa%3Ab%40host%2Fv", "x?url=amqp%3A%2F%2F***%40host%2Fv"),
        ("x?url=amqp%3a%2f%2fa%3ab%40host", "x?url=amqp%3a%2f%2f***%40host"),
        ("sqs://?secret_key=abc&region=eu", "sqs://?secret_key=***&region=eu"),
        (
            "https://s3/x?X-Amz-Signature=abc&X-Amz-Credential=d",
            "https://s3/x?X-Amz-Signature=***&X-Amz-Credential=***",
        ),
        ("ada@example.com wrote https://example.com", "ada@example.com wrote https://example.com"),
    ],
)
def test_what_is_scrubbed(text: str, expected: str) -> None:
    assert scrub(text) == expected


def test_no_repr_has_a_password() -> None:
    url = "amqp://user:s3cr3t@host/v"
    settings = load_settings(url=url, routes={"orders": url})
    assert (settings.url, settings.routes) == (url, {"orders": url})
    bus = Bus(url, settings=settings)
    for each in (settings, bus.settings, parse(url), bus):
        assert "s3cr3t" not in f"{each!r} {each}"
    assert "url='amqp://host/v'" in repr(settings)


def test_a_setting_that_is_wrong_is_not_quoted_with_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MSGBUS_ROUTES", '{"orders": ["amqp://user:s3cr3t@host"]}')
    with pytest.raises(ConfigError, match="MSGBUS_ROUTES") as caught:
        load_settings()
    assert "s3cr3t" not in f"{caught.value} {caught.value.__cause__}"
    assert isinstance(Settings.model_config.get("hide_input_in_errors"), bool)


def test_what_breaks_a_connection_names_no_password(caplog: pytest.LogCaptureFixture) -> None:
    async def run() -> None:
        async with Bus(settings=load_settings(url="amqp://user:s3cr3t@127.0.0.1:1/v?timeout=1", connect_timeout=0.2)):
            pass

    with caplog.at_level(logging.DEBUG), pytest.raises(Exception, match=r"127\.0\.0\.1") as caught:
        asyncio.run(run())
    assert "s3cr3t" not in f"{caught.value!r} {caplog.text}"
