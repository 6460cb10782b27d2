"""S3Store: large bodies in S3, in the format of Amazon's extended client libraries, both ways.

Source: amazon-sqs-java-extended-client-lib and amazon-sns-java-extended-client-lib: the body becomes
`["software.amazon.payloadoffloading.PayloadS3Pointer",{"s3BucketName":B,"s3Key":K}]`, the attribute
`ExtendedPayloadSize` (Number) its size in bytes. The older class name is read too.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Self

from msgbus import headers as h
from msgbus.broker import Mode
from msgbus.brokers.aws import Arn, AwsClient, AwsSettings, native_code, translate_any
from msgbus.brokers.aws.templates import FORMATS
from msgbus.brokers.plan import Plan, Resource, Right, Use
from msgbus.brokers.sqs.wire import OLD_POINTER, POINTER, SIZE_ATTRIBUTE
from msgbus.errors import DecodeError, Refused, Unavailable, said
from msgbus.message import Delivery, Outgoing

CLAIM_TYPE = "msgbus-claim-type"
"""The header with the body's own content type, while the message's body is a pointer."""

_UUID = "[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"  # what Amazon's clients write too
_KEY_BYTES = 1024
_POINTER_TYPE = "application/json"
_GONE = frozenset(("NoSuchKey", "404", "NotFound"))


class S3Store:
    """A `BodyStore` in one bucket: `Bus(store=S3Store("my-bucket"))`. Alone, use it as `async with`.

    `prefix`: of the keys it writes; a UUID follows. A pointer to any other object is refused, since whoever can send
    could have us read and delete what only we may. `trusted`: what else may be fetched, and is deleted when its message
    is done: a bucket, or a bucket and how its keys begin, as "their-bucket/bodies/". `put_options`: passed to
    PutObject, for encryption for example: `{"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": ...}`.
    """

    def __init__(
        self,
        bucket: str,
        *,
        prefix: str = "",
        trusted: Collection[str] = (),
        put_options: Mapping[str, Any] | None = None,
        settings: AwsSettings | None = None,
    ) -> None:
        self.bucket = bucket
        self._prefix = prefix
        self._trusted = tuple(each if "/" in each else f"{each}/" for each in trusted)
        self._own = re.compile(re.escape(prefix) + _UUID)
        self._put_options = dict(put_options or {})
        self._settings = settings
        self._client: AwsClient | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self.close()

    @property
    def is_open(self) -> bool:
        """Whether it has connections to close."""
        return self._client is not None

    async def close(self) -> None:
        """Close the connections to S3; it can be used again. A bus closes its store when it is closed."""
        client, self._client = self._client, None
        if client is not None:
            await client.close()

    async def put(self, out: Outgoing) -> None:
        """Store the body under a new key. Raises Unavailable where S3 can't be reached, Refused where it refuses."""
        key = f"{self._prefix}{uuid.uuid4()}"
        size = len(out.body)
        params = {"Bucket": self.bucket, "Key": key, "Body": out.body, **self._put_options}
        await self._call("PutObject", params)
        out.body = POINTER + b"," + json.dumps({"s3BucketName": self.bucket, "s3Key": key}).encode() + b"]"
        out.headers[CLAIM_TYPE] = out.headers.get(h.CONTENT_TYPE, "")
        out.headers[h.CONTENT_TYPE] = _POINTER_TYPE
        out.headers[SIZE_ATTRIBUTE] = str(size)

    def holds(self, delivery: Delivery) -> bool:
        """By the first bytes of the body, which Amazon's clients write too."""
        return delivery.body.startswith((POINTER, OLD_POINTER)) and h.CLAIM not in delivery.headers

    async def fetch(self, delivery: Delivery) -> None:
        """Raises DecodeError where the pointer is damaged, not trusted or leads nowhere, Unavailable else."""
        bucket, key = self._pointer(delivery)
        try:
            answer = await self._call("GetObject", {"Bucket": bucket, "Key": key})
        except Refused as error:
            if native_code(error) in _GONE:
                raise DecodeError(f"{delivery.source}: the body s3://{bucket}/{key} is gone") from error
            raise Unavailable(str(error)) from error.__cause__  # a missing right is not the message's fault
        headers = {name: value for name, value in delivery.headers.items() if name not in (CLAIM_TYPE, SIZE_ATTRIBUTE)}
        kind = delivery.headers.get(CLAIM_TYPE)
        if kind is not None:
            headers[h.CONTENT_TYPE] = kind
        headers[h.CLAIM] = json.dumps([bucket, key])
        delivery.body, delivery.headers = answer["Body"], headers

    async def forget(self, delivery: Delivery) -> None:
        """Delete the object; harmless where it is gone already. Raises DecodeError where it is not this store's."""
        bucket, key = self._checked(delivery, json.loads(delivery.headers[h.CLAIM]))
        await self._call("DeleteObject", {"Bucket": bucket, "Key": key})

    def plan(self, uses: Sequence[Use], mode: Mode) -> Plan:
        """The bucket, which is given, and the rights on its objects for what these uses send and receive.

        Without s3:ListBucket S3 says of an object that is gone that it is forbidden, and the message would be tried
        again for ever. A key of KMS that is not named by its ARN is not known here.
        """
        roles = {use.role for use in uses}
        allowed: list[Right] = []
        if roles - {"consume"}:
            allowed.append(Right("StoreBodies", ("s3:PutObject",), (_s3(f"{self.bucket}/{self._prefix}*"),)))
        if roles & {"consume", "answer", "request"}:
            begins = sorted({f"{self.bucket}/{self._prefix}", *self._trusted})
            buckets = sorted({each.partition("/")[0] for each in begins})
            read = ("s3:GetObject", "s3:DeleteObject")
            allowed.append(Right("FetchBodies", read, tuple(_s3(f"{each}*") for each in begins)))
            allowed.append(Right("MissBodies", ("s3:ListBucket",), tuple(map(_s3, buckets))))
        key = self._put_options.get("SSEKMSKeyId")
        if isinstance(key, str) and key.startswith("arn:"):
            allowed.append(Right("Encrypt", ("kms:GenerateDataKey", "kms:Decrypt"), (key,)))
        bucket = Resource(kind="S3 bucket", name=self.bucket, given=True)
        return Plan(resources=[bucket], rights=allowed, formats=FORMATS)

    def _pointer(self, delivery: Delivery) -> tuple[str, str]:
        try:
            pointer = json.loads(delivery.body)[1]
            place = pointer["s3BucketName"], pointer["s3Key"]
        except (ValueError, KeyError, TypeError, IndexError, RecursionError) as error:
            raise DecodeError(f"{delivery.source}: the pointer to a body in S3 is damaged: {said(error)}") from error
        return self._checked(delivery, place)

    def _checked(self, delivery: Delivery, place: object) -> tuple[str, str]:
        """A bucket and a key that are this store's business. Raises DecodeError."""
        match place:
            case (str(bucket), str(key)):
                where = f"{bucket}/{key}"
            case _:
                raise DecodeError(f"{delivery.source}: the pointer to a body in S3 is damaged: it is no bucket and key")
        is_own = bucket == self.bucket and self._own.fullmatch(key) is not None
        if not is_own and not (where.startswith(self._trusted) and _is_key(key)):
            raise DecodeError(
                f"{delivery.source}: the pointer leads to s3://{where!a:.200}, which this store does not write;"
                " S3Store(trusted=...) can allow it"
            )
        return bucket, key

    async def _call(self, operation: str, params: Mapping[str, Any]) -> dict[str, Any]:
        if self._client is None:
            self._client = AwsClient(self._settings)
        what = f"s3://{params['Bucket']}/{params['Key']}"
        if operation != "GetObject":
            return await self._client.call("s3", operation, params, what)
        try:
            async with self._client.client("s3") as s3:
                answer = await s3.get_object(**params)
                async with answer["Body"] as stream:
                    return {"Body": await stream.read()}
        except Exception as error:
            raise translate_any(error, "s3", operation, what) from error


def _is_key(key: str) -> bool:
    """Whether S3 can have an object of that name: 1 to 1,024 bytes, and no path that leads elsewhere."""
    size = len(key.encode(errors="replace"))
    return 0 < size <= _KEY_BYTES and key.isprintable() and ".." not in key.split("/")


def _s3(resource: str) -> Arn:
    return Arn("s3", resource, None, None)
