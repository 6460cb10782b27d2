"""Signatures, request by request, against botocore's own signer."""

import datetime
from unittest.mock import patch
from urllib.parse import quote

import pytest
from botocore.auth import SigV4Auth  # type: ignore[import-untyped]
from botocore.awsrequest import AWSRequest  # type: ignore[import-untyped]
from botocore.credentials import Credentials as BotoCredentials  # type: ignore[import-untyped]
from hypothesis import given
from hypothesis import strategies as st

from msgbus.brokers.aws.operations import HOT, Operation
from msgbus.brokers.aws.request import RequestWriter
from msgbus.brokers.aws.signing import Credentials, Template, derive_key, host_header

visible = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=40)
line = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=60)
segments = st.lists(
    st.one_of(st.sampled_from(["", ".", "..", "a b", "~", "%41"]), st.text(max_size=8)).map(
        lambda text: quote(text, safe="~%.")
    ),
    max_size=6,
)
queries = st.lists(st.tuples(st.text(max_size=6), st.text(max_size=6)), max_size=5).map(
    lambda pairs: "&".join(f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in pairs)
)
header_names = st.from_regex(r"[a-z][a-z0-9-]{0,12}", fullmatch=True).filter(
    lambda name: (
        name not in ("date", "host", "authorization", "x-amz-date", "x-amz-security-token", "x-amz-content-sha256")
        and name not in ("connection", "expect", "te", "trailer", "upgrade", "user-agent", "baggage")
    )
)
moments = st.integers(min_value=946_684_800, max_value=4_102_444_800)
credential_sets = st.builds(
    Credentials, visible, visible, st.none() | st.text(st.sampled_from("aZ09+/= -_"), max_size=300)
)


def signed_by_botocore(
    method: str,
    url: str,
    headers: dict[str, str],
    body: bytes,
    credentials: Credentials,
    at: int,
    service: str = "sqs",
) -> dict[str, str]:
    request = AWSRequest(method=method, url=url, data=body, headers=headers)
    now = datetime.datetime.fromtimestamp(at, datetime.UTC)
    keys = BotoCredentials(credentials.access_key, credentials.secret_key, credentials.token)
    with patch("botocore.auth.get_current_datetime", return_value=now):
        SigV4Auth(keys, service, "eu-west-1").add_auth(request)
    return {name.lower(): value for name, value in request.headers.items()}


@given(
    method=st.sampled_from(["POST", "GET", "PUT"]),
    host=st.sampled_from(
        ["http://localhost:4566", "https://sqs.eu-west-1.amazonaws.com", "https://h:443", "http://[::1]:9"]
    ),
    path=segments.map(lambda parts: "/" + "/".join(parts)),
    query=queries,
    headers=st.dictionaries(header_names, line, max_size=5),
    body=st.binary(max_size=200),
    credentials=credential_sets,
    at=moments,
)
def test_any_request_is_signed_as_botocore_does(
    method: str,
    host: str,
    path: str,
    query: str,
    headers: dict[str, str],
    body: bytes,
    credentials: Credentials,
    at: int,
) -> None:
    url = f"{host}{path}{'?' + query if query else ''}"
    theirs = signed_by_botocore(method, url, headers, body, credentials, at)
    ours = Template(method, url, headers, "eu-west-1", "sqs").sign(body, credentials, at)
    assert ours.authorization == theirs["authorization"]
    assert ours.date == theirs["x-amz-date"]


@given(
    bodies=st.lists(st.binary(max_size=50), min_size=1, max_size=4),
    identities=st.lists(credential_sets, min_size=1, max_size=3),
    times=st.lists(moments, min_size=1, max_size=3),
)
def test_a_template_is_used_again_with_other_bodies_credentials_and_days(
    bodies: list[bytes], identities: list[Credentials], times: list[int]
) -> None:
    url, headers = (
        "https://sqs.eu-west-1.amazonaws.com/",
        {"x-amz-target": "AmazonSQS.SendMessage", "x-zz": "1"},
    )
    template = Template("POST", url, headers, "eu-west-1", "sqs")
    for at in times:
        for credentials in identities:
            for body in bodies:
                theirs = signed_by_botocore("POST", url, headers, body, credentials, at)
                assert template.sign(body, credentials, at).authorization == theirs["authorization"]


@pytest.mark.parametrize("hot", HOT.values(), ids=lambda hot: f"{hot.service}-{hot.name}")
@pytest.mark.parametrize("token", [None, "FwoGZXIvYXdzE+/=="])
@pytest.mark.parametrize("url", ["http://127.0.0.1:4566", "https://x.eu-west-1.amazonaws.com/", "http://h/prefix/"])
def test_the_written_request_is_the_one_that_was_signed(hot: Operation, token: str | None, url: str) -> None:
    body = b'{"a": "\xc3\xa9"}'
    credentials = Credentials("AKID", "secret/+", token)
    raw = RequestWriter(hot, url, "eu-west-1").write(body, credentials, 1_700_000_000)
    head, _, sent = raw.partition(b"\r\n\r\n")
    first, *rest = head.decode().split("\r\n")
    headers = dict(each.split(": ", 1) for each in rest)
    assert sent == body
    assert int(headers["content-length"]) == len(body)
    assert first == f"POST {'/prefix/' if 'prefix' in url else '/'} HTTP/1.1"
    assert headers["host"] == host_header(url)
    assert headers.get("x-amz-security-token") == token
    theirs = signed_by_botocore("POST", url, dict(hot.headers), body, credentials, 1_700_000_000, hot.service)
    assert headers["authorization"] == theirs["authorization"]


def test_the_derived_key_is_made_once_a_day() -> None:
    derive_key.cache_clear()
    template = Template("POST", "http://h/", {}, "eu-west-1", "sqs")
    credentials = Credentials("AKID", "secret")
    for at in (86_400.0, 86_401.5, 2 * 86_400.0 - 1, 2 * 86_400.0):
        template.sign(b"", credentials, at)
    assert derive_key.cache_info().misses == 2


@pytest.mark.parametrize("value", ["a\r\nb: c", "a\nb", "a\x00", "é"])
def test_a_header_that_can_not_be_sent_is_refused(value: str) -> None:
    with pytest.raises(ValueError, match="can't carry"):
        Template("POST", "http://h/", {"x-a": value}, "eu-west-1", "sqs")
    with pytest.raises(ValueError, match="can't carry"):
        Template("POST", "http://h/", {}, "eu-west-1", "sqs").sign(b"", Credentials("a", "b", value), 0)


def test_header_names_are_lower_case() -> None:
    with pytest.raises(ValueError, match="X-A"):
        Template("POST", "http://h/", {"X-A": "1"}, "eu-west-1", "sqs")


def test_secrets_are_not_in_the_repr() -> None:
    assert "hidden" not in repr(Credentials("AKID", "hidden", "hidden too"))
