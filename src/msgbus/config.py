"""Settings from the environment (12-factor): every field is a variable with the prefix MSGBUS_."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Mapping
from typing import Any, Literal, Self

from pydantic import Field, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict, SettingsError

from msgbus.broker import Mode
from msgbus.brokers.hiding import scrub, shown
from msgbus.errors import ConfigError

_PREFIX = "MSGBUS_"

_OTHERS = ("MSGBUS_TEST_", "MSGBUS_RUN_")  # of the tests' servers, and of `msgbus run` for its own workers

_UNDECLARED = "which this bus does not declare (what is only published, bus.publishes(...) declares)"

OnFailure = Literal["retry", "exit"]


class Settings(BaseSettings):
    """What deployment decides. Times in seconds; build it with `load_settings` for readable errors."""

    model_config = SettingsConfigDict(env_prefix=_PREFIX, extra="ignore", frozen=True, hide_input_in_errors=True)

    env: Literal["development", "production"] = Field(
        default="development", description="production demands a broker and makes verify the default of provision"
    )
    url: str = Field(default="memory://", min_length=1, description="the broker that carries what no route names")
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

    @model_validator(mode="before")
    @classmethod
    def _of_production(cls, given: Any) -> Any:
        """What is there was deployed, and is not to be made in passing."""
        if isinstance(given, dict) and given.get("env") == "production":
            return {"provision": "verify", **given}
        return given

    @model_validator(mode="after")
    def _demands_a_broker(self) -> Self:
        """Raises ConfigError, as it is: pydantic wraps ValueErrors alone."""
        if self.env != "production":
            return self
        if self.is_in_process_unasked:
            raise ConfigError(f"{_PREFIX}URL is not set, and {_PREFIX}ENV=production takes no broker by default")
        for where, url in (
            (f"{_PREFIX}URL", self.url),
            *((f"the route {name!r}", at) for name, at in self.routes.items()),
        ):
            if url.partition(":")[0] == "memory":
                raise ConfigError(
                    f"{where} is memory://, which ends with its process: {_PREFIX}ENV=production refuses it"
                )
        return self

    @property
    def is_in_process_unasked(self) -> bool:
        """Whether the broker is the embedded one because nobody named any."""
        return "url" not in self.model_fields_set

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
    except RecursionError as error:
        raise ConfigError(f"a variable {_PREFIX}... is JSON that is nested too deep") from error
    except SettingsError as error:  # a variable that is no JSON
        name = next((name for name in Settings.model_fields if f'"{name}"' in str(error)), "")
        about = Settings.model_fields[name].description if name else "its value is no JSON"
        raise ConfigError(f"{_PREFIX}{name.upper()} can't be read: {error.__cause__ or error} ({about})") from error


def likely_mistakes(settings: Settings, declared: Collection[str], environment: Mapping[str, str]) -> list[str]:
    """What looks misspelt: variables that are none of ours, routes of nothing that is `declared` (names)."""
    ours = {name.upper() for name in Settings.model_fields}
    names = {name: name.upper().removeprefix(_PREFIX) for name in sorted(environment) if _is_for_us(name)}
    unknown = [
        f"{name} is no setting of msgbus{_nearest(rest, ours, _PREFIX)}"
        for name, rest in names.items()
        if rest not in ours
    ]
    routes = sorted(set(settings.routes) - set(declared))
    return unknown + [f"{_PREFIX}ROUTES names {name!r}, {_UNDECLARED}{_nearest(name, declared)}" for name in routes]


def _is_for_us(variable: str) -> bool:
    return variable.upper().startswith(_PREFIX) and not variable.upper().startswith(_OTHERS)


def _nearest(name: str, known: Collection[str], prefix: str = "") -> str:
    near = difflib.get_close_matches(name, sorted(known), 1)
    return f": is {prefix}{near[0]} meant?" if near else ""


def _explain(entry: Any, values: dict[str, Any]) -> str:
    name = str(entry["loc"][0]) if entry["loc"] else ""
    where = f"{name}=" if name in values else f"{_PREFIX}{name.upper()}"
    field = Settings.model_fields.get(name)
    about = f" ({field.description})" if field and field.description else ""
    return f"{where} is {scrub(repr(entry['input']))}: {entry['msg']}{about}"
