"""Settings from the environment (12-factor): every field is a variable with the prefix MSGBUS_."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict, SettingsError

from msgbus.broker import Mode
from msgbus.brokers.hiding import scrub, shown
from msgbus.errors import ConfigError

_PREFIX = "MSGBUS_"

OnFailure = Literal["retry", "exit"]


class Settings(BaseSettings):
    """What deployment decides. Times in seconds; build it with `load_settings` for readable errors."""

    model_config = SettingsConfigDict(env_prefix=_PREFIX, extra="ignore", frozen=True, hide_input_in_errors=True)

    url: str = Field(default="memory://", description="the broker that carries what no route names")
    routes: dict[str, str] = Field(
        default_factory=dict, description='JSON object: topic, queue or call name to URL, e.g. {"orders": "kinesis://"}'
    )
    service: str = Field(default="msgbus", min_length=1, description="who we are: ce-source of what we publish")
    prefix: str = Field(
        default="", pattern=r"^[A-Za-z0-9._-]{0,40}$", description="put before every name, e.g. staging-"
    )
    provision: Mode = Field(default="create", description="create what is missing, verify that it is there, or trust")
    replies: tuple[str, ...] = Field(
        default=(), description='JSON list: reply addresses to allow beside reply inboxes, "*" is any text'
    )
    concurrency: int = Field(default=32, ge=1, le=10_000, description="handlers running at once per subscription")
    publish_timeout: float = Field(default=30.0, gt=0, description="longest wait for a publish to be confirmed")
    connect_timeout: float = Field(default=30.0, gt=0, description="longest wait for the first connection")
    on_failure: OnFailure = Field(
        default="retry", description="a subscription that breaks is opened again and again, or it ends the service"
    )
    grace: float = Field(default=30.0, ge=0, description="how long running handlers may finish on stop")

    def __repr_args__(self) -> Iterable[tuple[str | None, Any]]:
        """Without the passwords of URLs."""
        for name, value in super().__repr_args__():
            if name == "routes":
                yield name, {target: shown(url) for target, url in self.routes.items()}
            else:
                yield name, shown(self.url) if name == "url" else value


def load_settings(**values: Any) -> Settings:
    """Settings from the environment, overridden by `values`. Raises ConfigError naming the variable."""
    try:
        return Settings(**values)
    except ValidationError as error:
        raise ConfigError("; ".join(_explain(entry, values) for entry in error.errors())) from error
    except SettingsError as error:  # a variable that is no JSON
        name = next((name for name in Settings.model_fields if f'"{name}"' in str(error)), "")
        about = Settings.model_fields[name].description if name else "its value is no JSON"
        raise ConfigError(f"{_PREFIX}{name.upper()} can't be read: {error.__cause__ or error} ({about})") from error


def _explain(entry: Any, values: dict[str, Any]) -> str:
    name = str(entry["loc"][0]) if entry["loc"] else ""
    where = f"{name}=" if name in values else f"{_PREFIX}{name.upper()}"
    field = Settings.model_fields.get(name)
    about = f" ({field.description})" if field and field.description else ""
    return f"{where} is {scrub(repr(entry['input']))}: {entry['msg']}{about}"
