"""Where an archive is kept."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from msgbus.brokers.aws import AwsClient, translate_any
from msgbus.errors import ConfigError


class ArchiveStore(Protocol):
    """Objects by name. Raises Unavailable or Throttled where trying again can help, Refused where not."""

    async def put(self, name: str, content: bytes) -> None:
        """Write an object, over one of that name."""
        ...

    async def names(self, prefix: str) -> Sequence[str]:
        """All names that begin so."""
        ...

    async def get(self, name: str) -> bytes:
        """An object's content."""
        ...


class S3Archive:
    """A bucket, under `prefix`. `put_options`: passed to PutObject, for encryption or a storage class for example."""

    def __init__(
        self, client: AwsClient, bucket: str, prefix: str = "", put_options: dict[str, Any] | None = None
    ) -> None:
        self._client = client
        self._bucket = bucket
        self._prefix = prefix.strip("/") + "/" if prefix.strip("/") else ""
        self._put_options = put_options or {}

    @classmethod
    def of_url(cls, client: AwsClient, url: str) -> S3Archive:
        """`s3://BUCKET/PREFIX`. Raises ConfigError."""
        if not url.startswith("s3://") or not url[5:].partition("/")[0]:
            raise ConfigError(f"{url!r}: expected s3://BUCKET/PREFIX")
        bucket, _, prefix = url[5:].partition("/")
        return cls(client, bucket, prefix)

    async def put(self, name: str, content: bytes) -> None:
        """PutObject."""
        params = {"Bucket": self._bucket, "Key": self._prefix + name, "Body": content, **self._put_options}
        await self._client.call("s3", "PutObject", params, f"s3://{self._bucket}")

    async def names(self, prefix: str) -> Sequence[str]:
        """ListObjectsV2, page after page."""
        params: dict[str, Any] = {"Bucket": self._bucket, "Prefix": self._prefix + prefix}
        names: list[str] = []
        while True:
            answer = await self._client.call("s3", "ListObjectsV2", params)
            names += [entry["Key"].removeprefix(self._prefix) for entry in answer.get("Contents") or ()]
            if not answer.get("IsTruncated"):
                return names
            params["ContinuationToken"] = answer["NextContinuationToken"]

    async def get(self, name: str) -> bytes:
        """GetObject."""
        try:
            async with self._client.client("s3") as s3:
                answer = await s3.get_object(Bucket=self._bucket, Key=self._prefix + name)
                async with answer["Body"] as stream:
                    content: bytes = await stream.read()
                    return content
        except Exception as error:
            raise translate_any(error, "s3", "GetObject", f"s3://{self._bucket}/{self._prefix}{name}") from error
