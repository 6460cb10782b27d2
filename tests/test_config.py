"""Settings: from the environment, and readable when they are wrong."""

from __future__ import annotations

import pytest

from msgbus import ConfigError
from msgbus.config import Settings, likely_mistakes, load_settings


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


def test_json_that_is_nested_too_deep_is_a_bad_value(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MSGBUS_ROUTES", "[" * 100_000)
    with pytest.raises(ConfigError, match="nested too deep"):
        load_settings()


# -- production


@pytest.mark.parametrize(
    ("values", "texts"),
    [
        ({}, ["MSGBUS_URL is not set", "MSGBUS_ENV=production"]),
        ({"MSGBUS_URL": "memory://"}, ["MSGBUS_URL is memory://"]),
        ({"MSGBUS_URL": "sqs://", "MSGBUS_ROUTES": '{"orders": "memory://a"}'}, ["the route 'orders' is memory://"]),
        ({"MSGBUS_ULR": "sqs://"}, ["MSGBUS_URL is not set"]),
    ],
)
def test_production_demands_a_broker(monkeypatch: pytest.MonkeyPatch, values: dict[str, str], texts: list[str]) -> None:
    monkeypatch.setenv("MSGBUS_ENV", "production")
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError) as refused:
        load_settings()
    for text in texts:
        assert text in str(refused.value)


def test_production_makes_nothing_in_passing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MSGBUS_ENV", "production")
    assert load_settings(url="sqs://").provision == "verify"
    monkeypatch.setenv("MSGBUS_PROVISION", "create")
    assert load_settings(url="sqs://").provision == "create"


def test_environments_are_two(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MSGBUS_ENV", "prod")
    with pytest.raises(ConfigError, match=r"MSGBUS_ENV is 'prod'.*'development' or 'production'"):
        load_settings()


# -- what looks misspelt


def test_the_nearest_name_is_told() -> None:
    unknown = "which this bus does not declare (what is only published, bus.publishes(...) declares)"
    settings = Settings(routes={"ordres": "memory://b", "orders": "memory://b", "xyz": "memory://b"})
    environment = {"MSGBUS_ULR": "", "MSGBUS_FOO_BAR_BAZ": "", "msgbus_url": "", "MSGBUS_TEST_X": "", "PATH": ""}
    assert likely_mistakes(settings, {"orders", "quotes"}, environment) == [
        "MSGBUS_FOO_BAR_BAZ is no setting of msgbus",
        "MSGBUS_ULR is no setting of msgbus: is MSGBUS_URL meant?",
        f"MSGBUS_ROUTES names 'ordres', {unknown}: is orders meant?",
        f"MSGBUS_ROUTES names 'xyz', {unknown}",
    ]
