"""From MODULE:NAME on the command line to the object."""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from types import ModuleType
from typing import Any, TypeVar

from msgbus.bus import Bus
from msgbus.errors import BusError, ConfigError

T = TypeVar("T")


def load_bus(target: str) -> Bus:
    """The Bus at MODULE:NAME; NAME is `bus` where it is left out. Raises ConfigError."""
    found = load(target if ":" in target else f"{target}:bus")
    if not isinstance(found, Bus):
        raise ConfigError(f"{target} is no Bus, it is {found!r}")
    return found


def load(target: str) -> Any:
    """The object at MODULE:NAME. The current folder is importable. Raises ConfigError."""
    name, _, path = target.partition(":")
    if not name or not path:
        raise ConfigError(f"{target!r}: write MODULE:NAME, for example shop.app:bus")
    found: Any = import_module(name)
    for part in path.split("."):
        if not hasattr(found, part):
            raise ConfigError(f"{target}: {name} has no {path!r}")
        found = getattr(found, part)
    return found


def import_module(name: str) -> ModuleType:
    """Import a module of the service. Whatever goes wrong becomes one readable ConfigError."""
    if (here := os.getcwd()) not in sys.path:
        sys.path.insert(0, here)
    try:
        return importlib.import_module(name)
    except BusError:
        raise
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if name == missing or name.startswith(f"{missing}."):
            raise ConfigError(f"there is no module {missing!r}, neither in {here} nor installed") from error
        raise ConfigError(f"{name} imports {missing!r}, which is not installed") from error
    except Exception as error:
        raise ConfigError(f"importing {name} failed: {_where(error)}{type(error).__name__}: {error}") from error


def the_bus_beside(target: str) -> Bus | None:
    """The Bus of the module of MODULE:NAME, if it has exactly one."""
    module = import_module(target.partition(":")[0])
    buses = {id(value): value for value in vars(module).values() if isinstance(value, Bus)}
    return next(iter(buses.values())) if len(buses) == 1 else None


def _where(error: Exception) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    return f"{frames[-1].filename}:{frames[-1].lineno}: " if frames else ""
