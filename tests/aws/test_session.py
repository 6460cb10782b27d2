"""Credentials, endpoints and cold clients, by botocore's own chain."""

import asyncio
import json
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme
from tests.aws.fakes import HandClock, Peer, answer, serve

from msgbus.brokers.aws.session import RELOAD_INTERVAL, AwsSession
from msgbus.brokers.aws.settings import AwsSettings
from msgbus.brokers.aws.signing import Credentials
from msgbus.errors import ConfigError


def session(clock: HandClock | None = None, **settings: object) -> AwsSession:
    return AwsSession(AwsSettings(**settings), clock or HandClock())  # type: ignore[arg-type]


async def test_credentials_of_the_environment_are_one_object() -> None:
    aws = session()
    first = await aws.credentials()
    assert first == Credentials("AKIDTEST", "secret")
    assert await aws.credentials() is first


async def test_credentials_of_a_profile(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    (tmp_path / "config").write_text("[profile shop]\nregion = eu-central-1\n")
    (tmp_path / "credentials").write_text("[shop]\naws_access_key_id=A\naws_secret_access_key=B\n")
    aws = session(profile="shop")
    assert await aws.credentials() == Credentials("A", "B")
    endpoint = await aws.endpoint("sqs")
    assert (endpoint.url, endpoint.region) == ("https://sqs.eu-central-1.amazonaws.com", "eu-central-1")
    await aws.close()


async def test_a_profile_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"profile=shop: .*\(shop\) could not be found, neither in ~/.aws/config"):
        session(profile="shop")
    monkeypatch.setenv("AWS_PROFILE", "till")
    with pytest.raises(ConfigError, match=r"AWS_PROFILE: .*\(till\) could not be found"):
        session()


async def test_credentials_of_a_container_are_refreshed_while_running(monkeypatch: pytest.MonkeyPatch) -> None:
    """They end in a minute, so botocore fetches others before each use."""
    ends = (datetime.now(UTC) + timedelta(minutes=1)).isoformat()
    fetched = 0

    async def script(peer: Peer) -> None:
        nonlocal fetched
        await peer.read()
        fetched += 1
        keys = {"AccessKeyId": f"A{fetched}", "SecretAccessKey": "B", "Token": "C", "Expiration": ends}
        await peer.send(answer(json.dumps(keys).encode(), connection="close"))

    async with serve(script) as server:
        monkeypatch.delenv("AWS_ACCESS_KEY_ID")
        monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
        monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{server.url}/keys")
        aws = session()
        first, second = await aws.credentials(), await aws.credentials()
        assert first.access_key != second.access_key
        assert first.token == "C"


async def test_a_reload_is_shared_and_not_repeated_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = HandClock()
    aws = session(clock)
    old = await aws.credentials()
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDNEW")
    assert all(await asyncio.gather(aws.reload(old), aws.reload(old)))
    new = await aws.credentials()
    assert new.access_key == "AKIDNEW"
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDLATER")
    assert not await aws.reload(new)
    clock.advance(RELOAD_INTERVAL)
    assert await aws.reload(new)
    assert (await aws.credentials()).access_key == "AKIDLATER"


async def test_a_replaced_client_closes_when_the_last_user_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    aws = session()
    async with aws.client("sqs") as before:
        async with aws.client("sqs") as same:
            assert same is before
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDNEW")
        assert await aws.reload(await aws.credentials())
        async with aws.client("sqs") as after:
            assert after is not before
    async with aws.client("sqs") as last:
        assert last is after
    await aws.close()


def test_tls_trusts_what_aiobotocore_trusts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    authority = trustme.CA()
    bundle = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(bundle))
    assert session().tls().cert_store_stats()["x509_ca"] > 10
    assert session(verify=str(bundle)).tls().cert_store_stats()["x509_ca"] == 1
    monkeypatch.setenv("AWS_CA_BUNDLE", str(bundle))
    assert session().tls().cert_store_stats()["x509_ca"] == 1
    assert session(verify=False).tls().verify_mode is ssl.CERT_NONE
