"""What an SQS call costs the client: aiobotocore, signed aiohttp, and the fast data plane of msgbus.

    python -m benchmarks.aws_http                     a server with fixed answers, plain and over TLS
    python -m benchmarks.aws_http --server fauxqs     an emulator of tests/servers (or ministack)
    python -m benchmarks.aws_http --url http://...    another server or emulator (creates queues there)

One trio is: send a batch of 10 messages of 1 KiB, receive 10, delete them in a batch. Measured is the CPU
time of this process alone (`time.process_time`); the server is another process. The clients take turns,
round by round, so that a slow moment of the machine hits all of them. Printed: median microseconds a trio,
the spread between the quartiles, and how many times cheaper than aiobotocore.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import ssl
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import trustme
from aiobotocore.session import AioSession  # type: ignore[import-untyped]
from tests.servers import server

from msgbus.brokers.aws import AwsClient, AwsSettings
from msgbus.brokers.aws.http import HttpClient
from msgbus.brokers.aws.signing import Credentials, Template
from msgbus.clock import SystemClock

REGION = "us-east-1"
CREDENTIALS = Credentials("AKIDEXAMPLE", "secret")
BODY = json.dumps({"order_id": "o-1", "lines": ["x" * 20] * 42})[:1023] + "}"
ENTRIES = [{"Id": str(i), "MessageBody": BODY} for i in range(10)]
CONTENT_TYPE = "application/x-amz-json-1.0"
Call = Callable[[str, dict[str, Any]], Awaitable[dict[str, Any]]]
Encode = Callable[[dict[str, Any]], bytes]


# The server with fixed answers, in a process of its own.


def fixed_answer(request: bytes) -> bytes:
    if b"AmazonSQS.ReceiveMessage" in request:
        message = {"ReceiptHandle": "r" * 180, "MD5OfBody": "0" * 32, "Body": BODY}
        answer: dict[str, Any] = {"Messages": [{"MessageId": f"{i:036}", **message} for i in range(10)]}
    else:
        sent = {"MD5OfMessageBody": "0" * 32}
        answer = {"Successful": [{"Id": str(i), "MessageId": f"{i:036}", **sent} for i in range(10)]}
    body = json.dumps(answer).encode()
    head = (
        f"HTTP/1.1 200 OK\r\nx-amzn-RequestId: {'0' * 36}\r\nDate: Tue, 24 Nov 2026 00:00:00 GMT\r\n"
        f"Content-Type: {CONTENT_TYPE}\r\nContent-Length: {len(body)}\r\nconnection: keep-alive\r\n\r\n"
    )
    return head.encode() + body


async def serve_one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    answers = {name: fixed_answer(name) for name in (b"AmazonSQS.ReceiveMessage", b"other")}
    with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
            await reader.readexactly(int(length.split(b":")[1]))
            receive = b"AmazonSQS.ReceiveMessage" in head
            writer.write(answers[b"AmazonSQS.ReceiveMessage" if receive else b"other"])
    writer.close()


async def serve(certificate: str) -> None:
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(certificate)
    servers = [await asyncio.start_server(serve_one, "127.0.0.1", 0, ssl=context) for context in (None, tls)]
    print(*(each.sockets[0].getsockname()[1] for each in servers), flush=True)
    await asyncio.Event().wait()


@contextlib.asynccontextmanager
async def fixed_server(folder: Path) -> AsyncIterator[tuple[str, str, str]]:
    """Plain URL, TLS URL, path of the authority's certificate."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(str(folder / "server.pem"))
    command = [sys.executable, "-m", "benchmarks.aws_http", "--serve", str(folder / "server.pem")]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    try:
        plain, tls = (await process.stdout.readline()).split()
        yield f"http://localhost:{int(plain)}", f"https://localhost:{int(tls)}", str(folder / "ca.pem")
    finally:
        process.terminate()
        await process.wait()


# The clients: each gives a `call(operation, params)`.


@contextlib.asynccontextmanager
async def aiobotocore_client(url: str, ca: str | None) -> AsyncIterator[Call]:
    names = {"SendMessageBatch": "send_message_batch", "ReceiveMessage": "receive_message"}
    names["DeleteMessageBatch"] = "delete_message_batch"
    keys = {"aws_access_key_id": CREDENTIALS.access_key, "aws_secret_access_key": CREDENTIALS.secret_key}
    async with AioSession().create_client("sqs", endpoint_url=url, region_name=REGION, verify=ca, **keys) as client:
        methods = {operation: getattr(client, name) for operation, name in names.items()}

        async def call(operation: str, params: dict[str, Any]) -> dict[str, Any]:
            answer: dict[str, Any] = await methods[operation](**params)
            return answer

        yield call


def template(url: str, operation: str) -> Template:
    headers = {"content-type": CONTENT_TYPE, "x-amz-target": f"AmazonSQS.{operation}"}
    return Template("POST", url + "/", headers, REGION, "sqs")


def context(ca: str | None) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=ca)


@contextlib.asynccontextmanager
async def aiohttp_client(url: str, ca: str | None, encode: Encode = orjson.dumps) -> AsyncIterator[Call]:
    templates: dict[str, Template] = {}
    tls = context(ca) if ca else True
    async with aiohttp.ClientSession(auto_decompress=False) as session:

        async def call(operation: str, params: dict[str, Any]) -> dict[str, Any]:
            signer = templates.get(operation) or templates.setdefault(operation, template(url, operation))
            body = encode(params)
            signed = signer.sign(body, CREDENTIALS, time.time())
            headers = {
                "content-type": CONTENT_TYPE,
                "x-amz-target": f"AmazonSQS.{operation}",
                "x-amz-date": signed.date,
                "authorization": signed.authorization,
            }
            async with session.post(url + "/", data=body, headers=headers, ssl=tls) as response:
                answer: dict[str, Any] = orjson.loads(await response.read())
                assert response.status == 200, answer
                return answer

        yield call


@contextlib.asynccontextmanager
async def protocol_client(url: str, ca: str | None, encode: Encode = orjson.dumps) -> AsyncIterator[Call]:
    """The HTTP layer of msgbus alone, used as barely as aiohttp above."""
    templates: dict[str, Template] = {}
    client = HttpClient(AwsSettings(), SystemClock(), lambda: context(ca))
    pool = client.pool(url)
    host = url.partition("//")[2]

    async def call(operation: str, params: dict[str, Any]) -> dict[str, Any]:
        signer = templates.get(operation) or templates.setdefault(operation, template(url, operation))
        body = encode(params)
        signed = signer.sign(body, CREDENTIALS, time.time())
        head = (
            f"POST / HTTP/1.1\r\nhost: {host}\r\ncontent-type: {CONTENT_TYPE}\r\n"
            f"x-amz-target: AmazonSQS.{operation}\r\nx-amz-date: {signed.date}\r\n"
            f"authorization: {signed.authorization}\r\ncontent-length: {len(body)}\r\n\r\n"
        )
        response = await pool.request(head.encode() + body, 30.0)
        answer: dict[str, Any] = orjson.loads(response.body)
        assert response.status == 200, answer
        return answer

    try:
        yield call
    finally:
        await client.close()


@contextlib.asynccontextmanager
async def whole_client(url: str, ca: str | None) -> AsyncIterator[Call]:
    """`AwsClient`, as a broker uses it."""
    async with AwsClient(AwsSettings(endpoint=url, region=REGION, verify=ca or True)) as client:
        assert await client.open("sqs")

        async def call(operation: str, params: dict[str, Any]) -> dict[str, Any]:
            return await client.call("sqs", operation, params)

        yield call


def plain_json(params: dict[str, Any]) -> bytes:
    return json.dumps(params).encode()


CLIENTS: dict[str, Callable[[str, str | None], contextlib.AbstractAsyncContextManager[Call]]] = {
    "aiobotocore": aiobotocore_client,
    "aiohttp, cached signing": aiohttp_client,
    "Protocol + httptools": protocol_client,
    "Protocol + httptools, json": lambda url, ca: protocol_client(url, ca, plain_json),
    "AwsClient.call (with msgspec)": whole_client,
}


# Measuring.


async def trio(call: Call, queue: str) -> None:
    sent = await call("SendMessageBatch", {"QueueUrl": queue, "Entries": ENTRIES})
    assert len(sent["Successful"]) == 10
    left = 10
    while left > 0:  # a server may hand out fewer than it has
        answer = await call("ReceiveMessage", {"QueueUrl": queue, "MaxNumberOfMessages": 10})
        handles = [message["ReceiptHandle"] for message in answer["Messages"]]
        entries = [{"Id": str(i), "ReceiptHandle": handle} for i, handle in enumerate(handles)]
        await call("DeleteMessageBatch", {"QueueUrl": queue, "Entries": entries})
        left -= len(entries)


async def make_queue(url: str, name: str) -> str:
    keys = {"aws_access_key_id": CREDENTIALS.access_key, "aws_secret_access_key": CREDENTIALS.secret_key}
    async with AioSession().create_client("sqs", endpoint_url=url, region_name=REGION, **keys) as client:
        return str((await client.create_queue(QueueName=name))["QueueUrl"])


async def compare(title: str, url: str, ca: str | None, args: argparse.Namespace) -> None:
    taken: dict[str, list[float]] = {name: [] for name in CLIENTS}
    async with contextlib.AsyncExitStack() as stack:
        calls = {name: await stack.enter_async_context(open_(url, ca)) for name, open_ in CLIENTS.items()}
        queues = {}
        for index, name in enumerate(calls):
            queue = f"bench-{os.getpid()}-{index}"
            queues[name] = await make_queue(url, queue) if args.url or args.server else f"{url}/000000000000/{queue}"
            await trio(calls[name], queues[name])
        for _ in range(args.rounds):
            for name, call in calls.items():
                start = time.process_time()
                for _ in range(args.trios):
                    await trio(call, queues[name])
                taken[name].append((time.process_time() - start) / args.trios * 1e6)
    report(title, taken)


def report(title: str, taken: dict[str, list[float]]) -> None:
    print(f"\n{title}\n{'client':34}{'CPU us/trio':>12}{'quartiles':>16}{'ratio':>8}")
    base = statistics.median(taken["aiobotocore"])
    for name, values in taken.items():
        low, middle, high = statistics.quantiles(values, n=4)
        print(f"{name:34}{middle:12.0f}{f'{low:.0f}-{high:.0f}':>16}{base / middle:8.1f}")


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", help="an SQS endpoint instead of the fixed answers")
    parser.add_argument("--server", choices=("fauxqs", "ministack"), help="an emulator of tests/servers")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--trios", type=int, default=50, help="trios of each client in a round")
    parser.add_argument("--serve", metavar="CERTIFICATE", help=argparse.SUPPRESS)
    args = parser.parse_args()
    os.environ["AWS_ACCESS_KEY_ID"] = CREDENTIALS.access_key
    os.environ["AWS_SECRET_ACCESS_KEY"] = CREDENTIALS.secret_key
    if args.serve:
        await serve(args.serve)
    elif args.server:
        async with server(args.server) as emulator:
            await compare(args.server, emulator.url, None, args)
    elif args.url:
        await compare(args.url, args.url, None, args)
    else:
        with tempfile.TemporaryDirectory() as folder:
            async with fixed_server(Path(folder)) as (plain, tls, ca):
                await compare("fixed answers", plain, None, args)
                await compare("fixed answers over TLS", tls, ca, args)


if __name__ == "__main__":
    asyncio.run(main())
