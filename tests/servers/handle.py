"""What tests hold of a server: where it is, and (if it is ours) the power to stop, kill and freeze it."""

import asyncio
import os
from collections.abc import Mapping
from typing import Self

from tests.servers.errors import NotOursError, UnavailableError
from tests.servers.model import Definition, Keeps


class Handle:
    """A server that somebody else runs, named by environment variables. `Server` adds what needs a process.

    `env` is what a client's environment needs (empty where the endpoint is `aws`, the real service).
    `keeps` says which data is still there after a restart.
    """

    def __init__(self, definition: Definition, urls: Mapping[str, str]) -> None:
        self.definition = definition
        self.name = definition.name
        self._urls = dict(urls)

    @classmethod
    def from_environment(cls, definition: Definition) -> "Handle | None":
        """The server that the main variable names, or None. The value `aws` is the real service."""
        urls = {kind: os.environ.get(each.variable, "") for kind, each in definition.endpoints.items()}
        if not urls[definition.main]:
            return None
        return cls(definition, {kind: url for kind, url in urls.items() if url})

    @property
    def url(self) -> str:
        """The main endpoint's URL, credentials included."""
        return self.url_of(self.definition.main)

    def url_of(self, kind: str) -> str:
        """The URL of one endpoint, such as `stomp` or `management` of RabbitMQ."""
        if kind not in self._urls:
            variable = self.definition.endpoints[kind].variable
            raise UnavailableError(f"{self.name} is given by {self._variable}, but {variable} is not set")
        return self._urls[kind]

    @property
    def env(self) -> dict[str, str]:
        """Environment variables for a client of this server."""
        if self.url == "aws":
            return {}
        return {key: value.format(url=self.url) for key, value in self.definition.client_env.items()}

    @property
    def variables(self) -> dict[str, str]:
        """The environment variables by which another process takes this server for its own tests."""
        return {self.definition.endpoints[kind].variable: url for kind, url in self._urls.items()}

    @property
    def keeps(self) -> Keeps:
        """Which data is still there after a stop or a kill."""
        return self.definition.keeps

    @property
    def alive(self) -> bool:
        """Whether its process runs; a server that is not ours is taken to."""
        return True

    @property
    def _variable(self) -> str:
        return self.definition.endpoints[self.definition.main].variable

    def refusal(self, what: str) -> NotOursError:
        """The error of whoever asks for more than we may do: "killed", "restarted"."""
        return NotOursError(f"{self.name} is given by {self._variable}: not started here, it can't be {what} here")

    def start(self) -> None:
        """Starts it, or does nothing if it runs. Returns when it is ready."""

    def stop(self) -> None:
        """Stops it cleanly. Ports and data stay: `start` brings it back."""
        raise self.refusal("stopped")

    def kill(self) -> None:
        """SIGKILL to its whole process group; returns when all of it is gone."""
        raise self.refusal("killed")

    def restart(self) -> None:
        """Stops it if it runs and starts it on the same ports and the same data folder."""
        raise self.refusal("restarted")

    def freeze(self) -> None:
        """SIGSTOP: connections stay open, and nothing is answered."""
        raise self.refusal("frozen")

    def thaw(self) -> None:
        """SIGCONT: goes on after `freeze`."""
        raise self.refusal("thawed")

    def close(self) -> None:
        """Ends it and removes its folder; a server that is not ours is left alone. May be called twice."""

    async def stop_async(self) -> None:
        """`stop` without holding up the event loop."""
        await asyncio.to_thread(self.stop)

    async def restart_async(self) -> None:
        """`restart` without holding up the event loop: it takes seconds."""
        await asyncio.to_thread(self.restart)

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return await asyncio.to_thread(self.__enter__)

    async def __aexit__(self, *_: object) -> None:
        await asyncio.to_thread(self.close)
