"""Settings: from the environment, and readable when they are wrong."""

from __future__ import annotations

import pytest

from msgbus import ConfigError
from msgbus.config import Settings, load_settings


def test_the_defaults() -> None:
    settings = load_settings()
    assert (settings.url, settings.routes, settings.prefix, settings.provision) == ("memory://", {}, "", "create")


def test_the_environment_decides_and_arguments_override(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MSGBUS_URL", "memory://a")
    monkeypatch.setenv("MSGBUS_SERVICE", "shop")
    monkeypatch.setenv("MSGBUS_ROUTES", '{"orders": "memory://b"}')
    monkeypatch.setenv("MSGBUS_CONCURRENCY", "7")
    settings = load_settings(url="memory://c")
    assert (settings.url, settings.service, settings.concurrency) == ("memory://c", "shop", 7)
    assert settings.routes == {"orders": "memory://b"}


@pytest.mark.parametrize(
    ("name", "value", "texts"),
    [
        ("CONCURRENCY", "many", ["MSGBUS_CONCURRENCY", "'many'", "integer", "handlers running at once"]),
        ("CONCURRENCY", "0", ["MSGBUS_CONCURRENCY", "'0'", "greater than or equal to 1"]),
        ("PROVISION", "maybe", ["MSGBUS_PROVISION", "'maybe'", "'create', 'verify' or 'trust'"]),
        ("PREFIX", "a b/", ["MSGBUS_PREFIX", "'a b/'"]),
        ("PUBLISH_TIMEOUT", "0", ["MSGBUS_PUBLISH_TIMEOUT", "greater than 0"]),
        ("GRACE", "-1", ["MSGBUS_GRACE", "greater than or equal to 0"]),
        ("SERVICE", "", ["MSGBUS_SERVICE"]),
        ("ROUTES", "[]", ["MSGBUS_ROUTES", "JSON object"]),
        ("ROUTES", "orders=kinesis://", ["MSGBUS_ROUTES", "JSON object"]),
    ],
)
def test_a_bad_value_names_its_variable_and_what_is_allowed(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, texts: list[str]
) -> None:
    monkeypatch.setenv(f"MSGBUS_{name}", value)
    with pytest.raises(ConfigError) as refused:
        load_settings()
    for text in texts:
        assert text in str(refused.value)


def test_every_bad_value_is_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MSGBUS_CONCURRENCY", "many")
    monkeypatch.setenv("MSGBUS_GRACE", "long")
    with pytest.raises(ConfigError, match=r"MSGBUS_CONCURRENCY.*MSGBUS_GRACE"):
        load_settings()


def test_a_bad_argument_is_named_as_one() -> None:
    with pytest.raises(ConfigError, match="grace= is -1"):
        load_settings(grace=-1)


def test_settings_don_t_change() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Settings().url = "memory://x"
