"""Options of a broker URL."""

import pytest

from msgbus.brokers.aws import AwsSettings
from msgbus.errors import ConfigError


def test_options_are_read() -> None:
    options = {"region": "eu-west-1", "fast": "0", "timeout": "2.5", "connections": "4", "verify": "/ca.pem"}
    assert AwsSettings.from_options(options) == AwsSettings(
        region="eu-west-1", fast=False, timeout=2.5, connections=4, verify="/ca.pem"
    )
    assert AwsSettings.from_options({}) == AwsSettings()
    assert AwsSettings.from_options({"verify": "off"}).verify is False


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"fasst": "1"}, "allowed are region, profile"),
        ({"fast": "maybe"}, "allowed are 1, true"),
        ({"timeout": "0"}, "above 0"),
        ({"timeout": "inf"}, "above 0"),
        ({"timeout": "nan"}, "above 0"),
        ({"connections": "2.5"}, "whole number"),
        ({"proxies": "http://p"}, "unknown"),
    ],
)
def test_a_bad_option_is_named(options: dict[str, str], text: str) -> None:
    with pytest.raises(ConfigError, match=text) as caught:
        AwsSettings.from_options(options)
    assert next(iter(options)) in str(caught.value)
