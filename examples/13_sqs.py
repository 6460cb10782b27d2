"""SQS and SNS: order per key on FIFO, a filter on the payload, and a queue that somebody else writes to.

Needs AWS credentials and a region, or an emulator, started in the repository:

    pip install 'msgbus[aws]'
    eval "$(python -m tests.servers start ministack)"
    python examples/13_sqs.py

It makes the topic, the queues and the policies by itself; nothing below is special to SQS but the URL and the stranger.
"""

import asyncio
import json
from typing import Any

from aiobotocore.session import get_session  # type: ignore[import-untyped]
from pydantic import BaseModel, Field

from msgbus import Bus, Message, Queue, Select, Topic


class Payment(BaseModel):
    account: str
    number: int
    currency: str


class Upload(BaseModel):
    """What S3 says of a new object, as far as we want to know."""

    name: str = Field(alias="eventName")
    s3: dict[str, Any]


class Notification(BaseModel):
    uploads: list[Upload] = Field(alias="Records")


payments = Topic("payments", Payment, key="account", ordered=True)  # payments.fifo, MessageGroupId is the account
uploads = Queue("uploads", Notification)

bus = Bus("sqs://")
booked: asyncio.Queue[Payment] = asyncio.Queue()
stored: asyncio.Queue[str] = asyncio.Queue()


@bus.subscriber(
    payments, group="ledger", select=Select(fields={"currency": ["EUR"]})
)  # the queue payments--ledger.fifo
async def book(payment: Payment) -> None:
    booked.put_nowait(payment)


@bus.consumer(uploads)
async def uploaded(message: Message[Notification]) -> None:
    (upload,) = message.payload.uploads
    stored.put_nowait(f"{upload.name} {upload.s3['object']['key']}, attempt {message.attempt}")


async def somebody_else() -> None:
    """Knows nothing of msgbus."""
    body = {"Records": [{"eventName": "ObjectCreated:Put", "s3": {"object": {"key": "cat.jpg"}}}]}
    async with get_session().create_client("sqs") as sqs:
        url = (await sqs.get_queue_url(QueueName="uploads"))["QueueUrl"]
        await sqs.send_message(QueueUrl=url, MessageBody=json.dumps(body))


async def main() -> None:
    async with bus.consuming():
        await bus.publish_many(
            payments,
            [
                Payment(account=account, number=number, currency=currency)
                for number in range(1, 4)
                for account in ("ada", "bob")
                for currency in ("EUR", "USD")
            ],
        )
        all_booked = [await booked.get() for _ in range(6)]
        for account in ("ada", "bob"):
            print(f"{account}: {[payment.number for payment in all_booked if payment.account == account]}")
        await somebody_else()
        print(await stored.get())


asyncio.run(main())
