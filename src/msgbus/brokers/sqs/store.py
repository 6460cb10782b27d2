"""S3Store: large bodies in S3, in the format of Amazon's extended client libraries, both ways.

Source: amazon-sqs-java-extended-client-lib and amazon-sns-java-extended-client-lib: the body becomes
`["software.amazon.payloadoffloading.PayloadS3Pointer",{"s3BucketName":B,"s3Key":K}]`, the attribute
`ExtendedPayloadSize` (Number) its size in bytes. The older class name is read too.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Collection, Mapping
from typing import Any, Self

from msgbus import headers as h
from msgbus.brokers.aws import AwsClient, AwsSettings, native_code, translate_any
from msgbus.brokers.sqs.wire import OLD_POINTER, POINTER, SIZE_ATTRIBUTE
from msgbus.errors import DecodeError, Refused, Unavailable
from msgbus.message import Delivery, Outgoing

CLAIM_TYPE = "msgbus-claim-type"
"""The header with the body's own content type, while the message's body is a pointer."""

_POINTER_TYPE = "application/json"
_GONE = frozenset(("NoSuchKey", "404", "NotFound"))


class S3Store:
    """A `BodyStore` in one bucket: `Bus(store=S3Store("my-bucket"))`. Close it, or use it as `async with`.

    `prefix`: of the keys it writes. `trusted`: other buckets whose objects may be fetched; a pointer to any other
    is refused, since whoever can send could have us read what only we may. `put_options`: passed to PutObject, for
    encryption for example: `{"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": ...}`.
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
        self._allowed = {bucket, *trusted}
        self._put_options = dict(put_options or {})
        self._settings = settings
        self._client: AwsClient | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections to S3; it can be used again."""
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
        """Delete the object; harmless where it is gone already."""
        bucket, key = json.loads(delivery.headers[h.CLAIM])
        await self._call("DeleteObject", {"Bucket": bucket, "Key": key})

    def _pointer(self, delivery: Delivery) -> tuple[str, str]:
        try:
            pointer = json.loads(delivery.body)[1]
            bucket, key = str(pointer["s3BucketName"]), str(pointer["s3Key"])
        except (ValueError, KeyError, TypeError, IndexError) as error:
            raise DecodeError(f"{delivery.source}: the pointer to a body in S3 is damaged: {error}") from error
        if bucket not in self._allowed:
            raise DecodeError(
                f"{delivery.source}: the pointer leads to the bucket {bucket!r}; name it in S3Store(trusted=...)"
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
