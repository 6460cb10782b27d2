"""The fast path: hot operations as signed HTTP requests of our own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgbus.brokers.aws.errors import AwsError, error_of_response
from msgbus.brokers.aws.failures import BadResponseError
from msgbus.brokers.aws.http import HttpClient
from msgbus.brokers.aws.operations import Operation
from msgbus.brokers.aws.pool import Pool
from msgbus.brokers.aws.request import RequestWriter
from msgbus.brokers.aws.session import AwsSession, Endpoint
from msgbus.brokers.aws.settings import AwsSettings
from msgbus.brokers.aws.signing import Credentials
from msgbus.clock import Clock
from msgbus.errors import ConfigError, Refused

SKEW = 240.0
"""Seconds that a clock must be off to be blamed; AWS accepts 5 minutes at least."""


class Route:
    """The way to one service: its endpoint, its pools, and a request writer for each operation."""

    def __init__(self, endpoint: Endpoint, http: HttpClient) -> None:
        self.endpoint = endpoint
        self.calls: Pool = http.pool(endpoint.url, "call")
        self.polls: Pool = http.pool(endpoint.url, "poll")
        self._writers: dict[str, RequestWriter] = {}

    def writer(self, operation: Operation) -> RequestWriter:
        """The writer of an operation, made once."""
        writer = self._writers.get(operation.name)
        if writer is None:
            writer = RequestWriter(operation, self.endpoint.url, self.endpoint.region)
            self._writers[operation.name] = writer
        return writer


class FastPath:
    """Routes, the corrected clock, and the call itself. Raises AwsError, HttpError, BusError, native ones."""

    def __init__(self, session: AwsSession, settings: AwsSettings, clock: Clock) -> None:
        self._session = session
        self._timeout = settings.timeout
        self._clock = clock
        self._http = HttpClient(settings, clock, session.tls)
        self.routes: dict[str, Route | None] = {}
        self.offset = 0.0  # seconds, of AWS's clock before ours

    async def route(self, service: str) -> Route | None:
        """The way to a service; None where only aiobotocore may go."""
        if service not in self.routes:
            endpoint = await self._session.endpoint(service)
            try:
                self.routes[service] = Route(endpoint, self._http) if endpoint.fast else None
            except ValueError as error:
                raise ConfigError(f"the endpoint of {service}: {error}") from error
        return self.routes[service]

    async def call(
        self, route: Route, operation: Operation, params: Mapping[str, Any], timeout: float | None
    ) -> dict[str, Any]:
        """Write, sign, send and read. A wrong clock and refused credentials are put right once each."""
        wait = operation.wait_seconds(params)
        body = _encode(operation, params)
        pool = route.polls if wait else route.calls
        limit = self._timeout + wait if timeout is None else timeout
        repaired: set[str] = set()
        while True:
            credentials, offset = await self._session.credentials(), self.offset
            request = route.writer(operation).write(body, credentials, self._clock.time() + offset)
            response = await pool.request(request, limit)
            if 200 <= response.status < 300:
                return _decode(operation, response.body)
            error = error_of_response(response)
            if not await self._repair(error, credentials, offset, repaired):
                raise error

    async def _repair(self, error: AwsError, used: Credentials, offset: float, repaired: set[str]) -> bool:
        """Whether another try can help: something that was wrong is right now."""
        if error.about_time and "time" not in repaired and error.server_time is not None:
            correct = error.server_time - self._clock.time()
            if abs(correct - offset) > SKEW:
                repaired.add("time")
                self.offset = correct
                return True
        if error.about_credentials and "credentials" not in repaired:
            repaired.add("credentials")
            return await self._session.reload(used)
        return False

    async def close(self) -> None:
        """Drop every connection."""
        await self._http.close()


def _encode(operation: Operation, params: Mapping[str, Any]) -> bytes:
    try:
        return operation.encode(params)
    except (TypeError, ValueError, KeyError) as error:
        raise Refused(f"{operation.service} {operation.name}: parameters that can't be sent: {error}") from error


def _decode(operation: Operation, body: bytes) -> dict[str, Any]:
    try:
        return operation.decode(body)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise BadResponseError(f"an answer that is not one of {operation.name}: {error}") from error
