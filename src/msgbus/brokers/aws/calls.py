"""`AwsClient`: one call for every AWS operation, the hot ones by the fast path, the others by aiobotocore."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from botocore import xform_name  # type: ignore[import-untyped]
from botocore.exceptions import ClientError  # type: ignore[import-untyped]

from msgbus.brokers.aws.codes import MISSING
from msgbus.brokers.aws.ending import Ending, bounded
from msgbus.brokers.aws.errors import AwsError, error_of_client, native_code, resource_of, translate_any
from msgbus.brokers.aws.fast import FastPath
from msgbus.brokers.aws.operations import HOT, seconds
from msgbus.brokers.aws.session import AwsSession
from msgbus.brokers.aws.settings import AwsSettings
from msgbus.clock import Clock, SystemClock
from msgbus.errors import Refused


class AwsClient:
    """Calls AWS with the credentials, region and endpoints of botocore's own chain.

    `call` is the same on both paths: botocore's parameters in, botocore's answer out, but without
    `ResponseMetadata` and with times as Unix seconds. Nothing is tried again here but what the caller can't
    see: a connection that the server had given up, credentials that expired (loaded anew once), a clock that
    is wrong (corrected by the server's once). aiobotocore tries again on its own, as configured for
    botocore.
    """

    def __init__(self, settings: AwsSettings | None = None, clock: Clock | None = None) -> None:
        self.settings = settings or AwsSettings()
        self._clock = clock or SystemClock()
        self._session = AwsSession(self.settings, self._clock)
        self._fast = FastPath(self._session, self.settings, self._clock)
        self._ending = Ending()

    async def __aenter__(self) -> AwsClient:
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close every connection, for good; calls under way, wherever they are, and later ones get Unavailable.

        It takes some seconds at most, whoever does not answer.
        """
        await self._ending.close()
        await bounded(self._fast.close(), "connections of the AWS client")
        await bounded(self._session.close(), "clients of aiobotocore")

    async def open(self, service: str) -> bool:
        """Find credentials and endpoint of a service now rather than in its first call; whether it is fast.

        Raises Refused (no region, no credentials), Unavailable (their source doesn't answer).
        """
        try:
            with self._ending.part():
                await self._session.credentials()
                return await self._fast.route(service) is not None
        except Exception as error:
            raise translate_any(error, service, "(open)", "its endpoint") from error

    @asynccontextmanager
    async def client(self, service: str) -> AsyncIterator[Any]:
        """The aiobotocore client of a service, for cold operations; shared, open while inside the context.

        It raises botocore's exceptions: `errors.translate_any` turns them into errors of msgbus.
        """
        cold = self._session.client(service)
        with self._ending.part():
            client = await cold.__aenter__()
        try:
            yield client
        finally:
            await cold.__aexit__(None, None, None)

    async def call(
        self, service: str, operation: str, params: Mapping[str, Any], what: str = "", *, timeout: float | None = None
    ) -> dict[str, Any]:
        """Call an operation by its AWS name (`"sqs", "SendMessageBatch"`) and give its answer.

        `what`: the resource that errors name, where `params` hold no URL, ARN or name of it. `timeout`: seconds in
        all; by default that of the settings, and the wait of a long poll on top.
        Raises Throttled, Unavailable, LeaseLost (a receipt handle that has expired) or Refused, with an
        `AwsError`, an `HttpError` or botocore's exception as `__cause__`. After Unavailable and after a
        cancellation in mid-call the outcome is unknown.
        """
        try:
            with self._ending.part():
                hot = HOT.get((service, operation))
                if hot is not None and hot.cold not in params:
                    route = self._fast.routes.get(service) or await self._fast.route(service)
                    if route is not None:
                        return await self._fast.call(route, hot, params, timeout)
                return await self._slow(service, operation, params, timeout)
        except Exception as error:
            bus_error = translate_any(error, service, operation, what or resource_of(params))
            if bus_error is error:
                raise
            raise bus_error from error

    async def find(
        self, service: str, operation: str, params: Mapping[str, Any], what: str = ""
    ) -> dict[str, Any] | None:
        """`call`; None where what it asks about is not there."""
        try:
            return await self.call(service, operation, params, what)
        except Refused as error:
            if native_code(error) in MISSING:
                return None
            raise

    async def make(self, service: str, operation: str, params: Mapping[str, Any], what: str = "") -> None:
        """`call`; harmless where somebody else was faster."""
        try:
            await self.call(service, operation, params, what)
        except Refused as error:
            if native_code(error) != "ResourceInUse":
                raise

    async def _slow(
        self, service: str, operation: str, params: Mapping[str, Any], timeout: float | None
    ) -> dict[str, Any]:
        credentials = await self._session.credentials()
        async with asyncio.timeout(timeout):
            try:
                return await self._call_client(service, operation, params)
            except AwsError as error:
                if not error.about_credentials or not await self._session.reload(credentials):
                    raise
            return await self._call_client(service, operation, params)

    async def _call_client(self, service: str, operation: str, params: Mapping[str, Any]) -> dict[str, Any]:
        method = xform_name(operation)
        async with self._session.client(service) as client:
            if method not in client.meta.method_to_api_mapping:
                raise Refused(f"{service} has no operation {operation!r}")
            try:
                answer = await getattr(client, method)(**params)
            except ClientError as error:
                raise error_of_client(error) from error
        answer.pop("ResponseMetadata", None)
        plain: dict[str, Any] = _plain(answer)
        return plain


def _plain(value: Any) -> Any:
    """The answer as the fast path gives it: times as Unix seconds."""
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return seconds(value)
