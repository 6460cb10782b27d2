"""Credentials, region, endpoints and cold clients, all from aiobotocore's session: botocore's own chain."""

from __future__ import annotations

import asyncio
import functools
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from aiobotocore.config import AioConfig  # type: ignore[import-untyped]
from aiobotocore.session import AioSession  # type: ignore[import-untyped]
from botocore.exceptions import NoCredentialsError, ProfileNotFound  # type: ignore[import-untyped]
from botocore.httpsession import get_cert_path  # type: ignore[import-untyped]
from botocore.loaders import create_loader  # type: ignore[import-untyped]
from botocore.utils import get_environ_proxies  # type: ignore[import-untyped]

from msgbus.brokers.aws.settings import AwsSettings
from msgbus.brokers.aws.signing import Credentials
from msgbus.clock import Clock
from msgbus.errors import ConfigError

RELOAD_INTERVAL = 5.0
"""Seconds between two reloads of refused credentials: with a wrong key every call would ask for one."""

_LONGEST_POLL = 20.0  # seconds, of SQS


def configured_region(profile: str | None = None) -> str:
    """The region that environment and configuration files give, "" for none. Raises ConfigError for no such profile."""
    try:
        return str(AioSession(profile=profile).get_config_variable("region") or "")
    except ProfileNotFound as error:
        raise ConfigError(f"profile={profile}: {error}") from error


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a service is, and whether the fast path may go there."""

    url: str
    region: str
    fast: bool


class _Cold:
    """An open aiobotocore client. `users`: who is inside; a replaced one closes when the last user leaves."""

    def __init__(self, context: Any, client: Any, generation: int) -> None:
        self.context = context
        self.client = client
        self.generation = generation
        self.users = 0
        self._closed = False

    async def leave(self, current: int) -> None:
        self.users -= 1
        if self.users == 0 and self.generation != current:
            await self.close()

    async def close(self) -> None:
        if not self._closed:
            self._closed = True
            await self.context.__aexit__(None, None, None)


class AwsSession:
    """One AWS identity: its credentials, refreshed while running, its endpoints and its aiobotocore clients.

    Everything here raises botocore's own exceptions; `errors` translates them.
    """

    def __init__(self, settings: AwsSettings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._session = self._new_session()
        self._generation = 0
        self._provider: Any = None
        self._frozen: Any = None
        self._credentials = Credentials("", "")
        self._cold: dict[str, _Cold] = {}
        self._lock = asyncio.Lock()
        self._reloaded_at = float("-inf")

    def _new_session(self) -> Any:
        profile = self._settings.profile
        session = AioSession(profile=profile)
        try:
            session.register_component("data_loader", _loader(session.get_config_variable("data_path")))
        except ProfileNotFound as error:
            where = f"profile={profile}" if profile else "AWS_PROFILE"
            raise ConfigError(f"{where}: {error}, neither in ~/.aws/config nor in ~/.aws/credentials") from error
        return session

    async def credentials(self) -> Credentials:
        """The credentials to sign with now; the same object until they change. Raises NoCredentialsError."""
        if self._provider is None:
            self._provider = await self._session.get_credentials()
            if self._provider is None:
                raise NoCredentialsError
        frozen = await self._provider.get_frozen_credentials()
        if frozen != self._frozen:
            self._frozen = frozen
            self._credentials = Credentials(frozen.access_key, frozen.secret_key, frozen.token or None)
        return self._credentials

    async def reload(self, refused: Credentials) -> bool:
        """Run the whole chain again, because AWS refused these; whether there are other credentials now."""
        async with self._lock:
            if await self.credentials() != refused:
                return True
            now = self._clock.now()
            if now - self._reloaded_at < RELOAD_INTERVAL:
                return False
            self._reloaded_at = now
            self._session, self._provider = self._new_session(), None
            self._generation += 1
            return await self.credentials() != refused

    async def endpoint(self, service: str) -> Endpoint:
        """Where botocore would send a call of this service. Opens its cold client, so it takes a moment."""
        async with self.client(service) as client:
            meta = client.meta
            return Endpoint(meta.endpoint_url, meta.region_name, self._settings.fast and _plain(meta))

    @asynccontextmanager
    async def client(self, service: str) -> AsyncIterator[Any]:
        """The aiobotocore client of a service, shared; it stays open while anyone is inside."""
        async with self._lock:
            cold = self._cold.get(service)
            if cold is None or cold.generation != self._generation:
                fresh = await self._open(service)
                if cold is not None and cold.users == 0:
                    await cold.close()
                cold = self._cold[service] = fresh
            cold.users += 1
        try:
            yield cold.client
        finally:
            await cold.leave(self._generation)

    async def _open(self, service: str) -> _Cold:
        settings = self._settings
        config = AioConfig(
            connect_timeout=settings.connect_timeout,
            read_timeout=settings.timeout + _LONGEST_POLL,
            max_pool_connections=2 * settings.connections,
            proxies=dict(settings.proxies) if settings.proxies is not None else None,
            user_agent_extra="msgbus",
        )
        context = self._session.create_client(
            service,
            region_name=settings.region,
            endpoint_url=settings.endpoint,
            verify=None if settings.verify is True else settings.verify,
            config=config,
        )
        return _Cold(context, await context.__aenter__(), self._generation)

    def tls(self) -> ssl.SSLContext:
        """A TLS context that trusts what the aiobotocore clients trust."""
        verify = self._settings.verify
        if verify is True:
            verify = self._session.get_config_variable("ca_bundle") or True
        if verify is False:
            context = ssl.create_default_context()
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        else:
            context = ssl.create_default_context(cafile=get_cert_path(verify))
        context.set_alpn_protocols(["http/1.1"])
        return context

    async def close(self) -> None:
        """Close every cold client."""
        async with self._lock:
            clients, self._cold = list(self._cold.values()), {}
            for cold in clients:
                await cold.close()


@functools.cache
def _loader(data_path: str | None) -> Any:
    """The service models of botocore, read once a process: four of them take a fifth of a second."""
    return create_loader(data_path)


def _plain(meta: Any) -> bool:
    """No proxy, no client certificate, no other signature: nothing that only aiobotocore does."""
    config = meta.config
    scheme = urlsplit(meta.endpoint_url).scheme
    proxies = config.proxies if config.proxies is not None else get_environ_proxies(meta.endpoint_url)
    return scheme not in proxies and config.client_cert is None and config.signature_version == "v4"
