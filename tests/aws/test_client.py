"""`AwsClient` against a server that answers as AWS does when something is wrong, on both paths."""

import asyncio
import time
from email.utils import formatdate
from pathlib import Path

import pytest
from tests.aws.fakes import HandClock, Peer, Request, Script, always, answer, serve
from tests.slowness import slowness

from msgbus.brokers.aws import AwsClient, AwsError, AwsSettings, native_code
from msgbus.errors import BusError, Refused, Throttled, Unavailable

MESSAGE = {"QueueUrl": "http://h/1/q", "MessageBody": "a"}
both = pytest.mark.parametrize("fast", [True, False], ids=["fast", "slow"])


def client(url: str, *, fast: bool = True, clock: HandClock | None = None, **more: object) -> AwsClient:
    settings = AwsSettings(endpoint=url, fast=fast, **more)  # type: ignore[arg-type]
    return AwsClient(settings, clock)


def refusal(code: str, status: int = 400, **headers: str) -> bytes:
    return answer(b'{"__type":"%b","message":"because"}' % code.encode(), status, **headers)


def recorded(seen: list[Request], *answers: bytes) -> Script:
    left = list(answers)

    async def script(peer: Peer) -> None:
        while True:
            seen.append(await peer.read())
            await peer.send(left.pop(0) if len(left) > 1 else left[0])

    return script


def key_of(request: Request) -> str:
    return request.headers["authorization"].partition("Credential=")[2].partition("/")[0]


@both
async def test_a_call_and_its_answer(fast: bool) -> None:
    seen: list[Request] = []
    async with serve(recorded(seen, answer(b'{"MessageId":"1"}'))) as server, client(server.url, fast=fast) as aws:
        assert await aws.open("sqs") is fast
        assert await aws.call("sqs", "SendMessage", MESSAGE) == {"MessageId": "1"}
        assert (seen[0].headers["user-agent"] == "msgbus") is fast
        assert seen[0].headers["x-amz-target"] == "AmazonSQS.SendMessage"
        assert "/eu-west-1/sqs/aws4_request" in seen[0].headers["authorization"]


@both
@pytest.mark.parametrize(
    ("data", "kind", "code"),
    [
        (refusal("ThrottlingException", 400, retry_after="2"), Throttled, "Throttling"),
        (refusal("InternalFailure", 500), Unavailable, "InternalFailure"),
        (refusal("AccessDeniedException"), Refused, "AccessDenied"),
        (refusal("QueueDoesNotExist", x_amzn_query_error="QueueDoesNotExist;Sender"), Refused, "QueueDoesNotExist"),
    ],
)
async def test_a_refusal_is_the_same_error_on_both_paths(
    fast: bool, data: bytes, kind: type[Exception], code: str
) -> None:
    async with serve(always(data)) as server, client(server.url, fast=fast) as aws:
        with pytest.raises(kind, match=r"sqs SendMessage on http://h/1/q: because") as caught:
            await aws.call("sqs", "SendMessage", MESSAGE)
        assert native_code(caught.value) == code
        assert isinstance(caught.value.__cause__, AwsError)
        if isinstance(caught.value, Throttled):
            assert caught.value.retry_after == 2.0


@both
async def test_nobody_listens(fast: bool) -> None:
    async with serve(always(answer())) as server:
        url = server.url
    async with client(url, fast=fast) as aws:
        with pytest.raises(Unavailable, match="http://h/1/q"):
            await aws.call("sqs", "SendMessage", MESSAGE)


async def test_an_answer_that_is_none() -> None:
    async with serve(always(answer(b"<html>"), answer(b"[1]"))) as server, client(server.url) as aws:
        for _ in range(2):
            with pytest.raises(Unavailable, match="whether it was carried out is unknown"):
                await aws.call("sqs", "SendMessage", MESSAGE)


async def test_an_answer_that_is_too_large() -> None:
    async with serve(always(answer(b"x" * 50))) as server, client(server.url, max_response=20) as aws:
        with pytest.raises(Refused, match="max_response"):
            await aws.call("sqs", "SendMessage", MESSAGE)


@both
async def test_parameters_that_can_not_be_sent(fast: bool) -> None:
    async with serve(always(answer())) as server, client(server.url, fast=fast) as aws:
        with pytest.raises(Refused):
            await aws.call("sqs", "SendMessage", {**MESSAGE, "MessageBody": object()})
        with pytest.raises(Refused, match="no operation 'FlyToTheMoon'"):
            await aws.call("sqs", "FlyToTheMoon", {})
        assert server.connections == 0


async def test_the_timeout_of_a_long_poll_is_on_top_of_its_wait() -> None:
    clock = HandClock()
    arrived = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.read()
        arrived.set()
        await peer.gone()

    async with serve(script) as server, client(server.url, clock=clock, timeout=10.0) as aws:
        poll = asyncio.create_task(aws.call("sqs", "ReceiveMessage", {"QueueUrl": "q", "WaitTimeSeconds": 20}))
        await arrived.wait()
        clock.advance(29)
        await asyncio.sleep(0)
        assert not poll.done()
        clock.advance(1)
        with pytest.raises(Unavailable, match="timeout"):
            await poll


async def test_a_send_does_not_wait_behind_long_polls() -> None:
    polls = asyncio.Event()

    async def script(peer: Peer) -> None:
        request = await peer.read()
        if request.headers["x-amz-target"].endswith("ReceiveMessage"):
            polls.set()
            await peer.gone()
        await peer.send(answer(b'{"MessageId":"1"}'))

    async with serve(script) as server, client(server.url, connections=1) as aws:
        poll = asyncio.create_task(aws.call("sqs", "ReceiveMessage", {"QueueUrl": "q", "WaitTimeSeconds": 20}))
        await polls.wait()
        assert await aws.call("sqs", "SendMessage", MESSAGE) == {"MessageId": "1"}
        poll.cancel()


@both
async def test_refused_credentials_are_loaded_anew_once(fast: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Request] = []
    script = recorded(seen, refusal("ExpiredTokenException", 403), answer(b'{"MessageId":"1"}'))
    async with serve(script) as server, client(server.url, fast=fast) as aws:
        await aws.open("sqs")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDNEW")
        monkeypatch.setenv("AWS_SESSION_TOKEN", "token")
        assert await aws.call("sqs", "SendMessage", MESSAGE) == {"MessageId": "1"}
        assert [key_of(request) for request in seen] == ["AKIDTEST", "AKIDNEW"]
        assert seen[1].headers["x-amz-security-token"] == "token"


@both
async def test_credentials_that_stay_bad_are_refused(fast: bool) -> None:
    seen: list[Request] = []
    script = recorded(seen, refusal("InvalidClientTokenId", 403))
    async with serve(script) as server, client(server.url, fast=fast) as aws:
        for _ in range(2):
            with pytest.raises(Refused, match="sqs:SendMessage needs valid credentials"):
                await aws.call("sqs", "SendMessage", MESSAGE)
        assert len(seen) == 2  # the same keys again would not help


async def test_new_credentials_that_are_bad_too_end_it(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Request] = []
    async with serve(recorded(seen, refusal("ExpiredToken", 403))) as server, client(server.url) as aws:
        await aws.open("sqs")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDNEW")
        with pytest.raises(Unavailable, match="session token"):
            await aws.call("sqs", "SendMessage", MESSAGE)
        assert [key_of(request) for request in seen] == ["AKIDTEST", "AKIDNEW"]


@pytest.mark.parametrize("code", ["RequestTimeTooSkewed", "SignatureDoesNotMatch", "InvalidSignatureException"])
@pytest.mark.parametrize("wrong", [-3600.0, 86_400.0])
async def test_a_wrong_clock_is_corrected_by_the_servers(code: str, wrong: float) -> None:
    seen: list[Request] = []
    script = recorded(seen, refusal(code, 403, date=formatdate(usegmt=True)), answer(b'{"MessageId":"1"}'))
    async with serve(script) as server, client(server.url, clock=HandClock(wrong)) as aws:
        for _ in range(2):
            assert await aws.call("sqs", "SendMessage", MESSAGE) == {"MessageId": "1"}
        assert len(seen) == 3  # the second call knows the time
        signed = [time.mktime(time.strptime(each.headers["x-amz-date"], "%Y%m%dT%H%M%SZ")) for each in seen]
        assert abs(signed[1] - signed[0] + wrong) < 60
        assert abs(signed[2] - signed[1]) < 60


async def test_calls_under_way_share_a_correction() -> None:
    seen: list[Request] = []
    three = asyncio.Event()

    async def script(peer: Peer) -> None:
        while True:
            seen.append(await peer.read())
            first = len(seen) <= 3
            if len(seen) == 3:
                three.set()
            await three.wait()
            late = refusal("RequestExpired", 403, date=formatdate(usegmt=True))
            await peer.send(late if first else answer(b'{"MessageId":"1"}'))

    async with serve(script) as server, client(server.url, clock=HandClock(3600.0)) as aws:
        calls = [aws.call("sqs", "SendMessage", MESSAGE) for _ in range(3)]
        assert await asyncio.gather(*calls) == [{"MessageId": "1"}] * 3
        assert len(seen) == 6


async def test_a_right_clock_is_not_corrected() -> None:
    data = refusal("SignatureDoesNotMatch", 403, date=formatdate(usegmt=True))
    async with serve(always(data)) as server, client(server.url) as aws:
        with pytest.raises(Refused, match="check the access key"):
            await aws.call("sqs", "SendMessage", MESSAGE)


async def test_a_correction_that_does_not_help_ends_it() -> None:
    seen: list[Request] = []
    script = recorded(seen, refusal("RequestTimeTooSkewed", 403, date="Tue, 24 Nov 2020 03:31:11 GMT"))
    async with serve(script) as server, client(server.url) as aws:
        with pytest.raises(Refused, match="check the clock"):
            await aws.call("sqs", "SendMessage", MESSAGE)
        assert len(seen) == 2


async def test_a_cancelled_call_leaves_the_client_usable() -> None:
    arrived = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.read()
        if peer.number == 1:
            arrived.set()
            await peer.gone()
        await peer.send(answer(b'{"MessageId":"2"}'))

    async with serve(script) as server, client(server.url) as aws:
        call = asyncio.create_task(aws.call("sqs", "SendMessage", MESSAGE))
        await arrived.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert await aws.call("sqs", "SendMessage", MESSAGE) == {"MessageId": "2"}


async def test_a_closed_client_is_unavailable() -> None:
    async with serve(always(answer())) as server:
        aws = client(server.url)
        await aws.open("sqs")
        await aws.close()
        for service, operation in (("sqs", "SendMessage"), ("sns", "ListTopics")):
            with pytest.raises(Unavailable, match="closed"):
                await aws.call(service, operation, MESSAGE)
        with pytest.raises(Unavailable, match="closed"):
            await aws.open("kinesis")


@both
async def test_a_timeout_of_one_call(fast: bool) -> None:
    async def script(peer: Peer) -> None:
        await peer.read()
        await peer.send(answer(b'{"MessageId":"1"}'))
        await peer.read()
        await peer.gone()

    async with serve(script) as server, AwsClient(AwsSettings(endpoint=server.url, fast=fast)) as aws:
        await aws.call("sqs", "SendMessage", MESSAGE)  # connected, which can take longer than the timeout
        with pytest.raises(Unavailable, match="unknown"):
            await aws.call("sqs", "SendMessage", MESSAGE, timeout=0.2 * slowness())


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "http_proxy"])
async def test_a_proxy_takes_the_slow_path(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    seen: list[Request] = []
    async with serve(recorded(seen, answer(b'{"MessageId":"1"}'))) as proxy:
        monkeypatch.setenv(variable, proxy.url)
        async with client("http://sqs.test") as aws:
            assert await aws.open("sqs") is False
            assert await aws.call("sqs", "SendMessage", MESSAGE) == {"MessageId": "1"}
            assert seen[0].line.startswith("POST http://sqs.test/ ")


async def test_an_endpoint_that_no_proxy_is_for_is_fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "localhost")
    async with client("http://localhost:1") as aws:
        assert await aws.open("sqs") is True


async def test_a_proxy_in_the_settings_takes_the_slow_path() -> None:
    async with client("https://sqs.test", proxies={"https": "http://127.0.0.1:9"}) as aws:
        assert await aws.open("sqs") is False


async def test_a_global_endpoint_of_eventbridge_takes_the_slow_path() -> None:
    async with serve(always(answer())) as server, client(server.url) as aws:
        with pytest.raises(Refused, match=r"(?i)crt"):
            await aws.call("events", "PutEvents", {"EndpointId": "a.b", "Entries": [{"Source": "s"}]})


async def test_no_region(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    async with AwsClient() as aws:
        with pytest.raises(Refused, match="AWS_DEFAULT_REGION"):
            await aws.open("sqs")


async def test_no_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    async with AwsClient() as aws:
        with pytest.raises(Refused, match="no AWS credentials"):
            await aws.open("sqs")


async def test_an_endpoint_that_is_none() -> None:
    async with client("not a url") as aws:
        with pytest.raises(BusError, match="not a url"):
            await aws.open("sqs")


async def test_endpoints_come_from_botocore(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async with serve(always(answer(b'{"MessageId":"sqs"}'))) as one, serve(always(answer(b"{}"))) as two:
        monkeypatch.setenv("AWS_ENDPOINT_URL", two.url)
        monkeypatch.setenv("AWS_ENDPOINT_URL_SQS", one.url)
        async with AwsClient() as aws:
            assert await aws.call("sqs", "SendMessage", MESSAGE) == {"MessageId": "sqs"}
            assert await aws.call("kinesis", "PutRecords", {"StreamName": "s", "Records": []}) == {}
        assert (one.connections, two.connections) == (1, 1)
