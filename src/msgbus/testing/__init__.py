"""Tests of services: the real Bus on the embedded broker, with a clock that is turned instead of waited for."""

from msgbus.testing.records import Attempt
from msgbus.testing.settling import NotSettled
from msgbus.testing.testbus import TestBus
from msgbus.testing.virtual import VirtualClock

__all__ = ["Attempt", "NotSettled", "TestBus", "VirtualClock"]
