"""The command line: python -m tests.servers install|start|stop|status|kill|restart [NAME...]."""

import argparse
import shlex
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from tests.servers import state
from tests.servers.catalog import DEFINITIONS, NAMES
from tests.servers.errors import ServerError
from tests.servers.handle import Handle
from tests.servers.install import ensure
from tests.servers.instance import Server
from tests.servers.model import Definition


def _given(definition: Definition) -> Handle | None:
    """The environment's server, unless its variable only names the one started here (by `eval`)."""
    return None if state.load(definition) else Handle.from_environment(definition)


def _ours(definition: Definition, what: str) -> Server:
    instance = state.load(definition)
    if instance is not None:
        return instance
    if given := Handle.from_environment(definition):
        raise given.refusal(what)
    raise ServerError(f"{definition.name} was not started here")


def _install(definition: Definition) -> str:
    ensure(definition.needs)
    return f"# {definition.name} is installed"


def _start(definition: Definition) -> str:
    if given := _given(definition):
        return "\n".join([f"# {definition.name} is given by the environment: {given.url}", *_for_clients(given)])
    return _exports(state.start(definition))


def _exports(instance: Server) -> str:
    """Lines for a shell's `eval`: they point the tests and clients at this instance."""
    endpoints = instance.definition.endpoints.items()
    for_tests = [f"export {each.variable}={instance.url_of(kind)}" for kind, each in endpoints]
    return "\n".join([*for_tests, *_for_clients(instance)])


def _for_clients(instance: Handle) -> list[str]:
    """What an example or a service needs to reach it: of AWS the endpoint, a region, keys of nobody."""
    return [f"export {name}={shlex.quote(value)}" for name, value in instance.env.items()]


def _stop(definition: Definition) -> str:
    _ours(definition, "stopped").close()
    return f"# {definition.name} is stopped, its data is gone"


def _kill(definition: Definition) -> str:
    _ours(definition, "killed").kill()
    return f"# {definition.name} is killed; `restart` brings it back on the same ports and data"


def _restart(definition: Definition) -> str:
    instance = _ours(definition, "restarted")
    instance.restart()
    state.save(instance)
    return _exports(instance)


def _status(definition: Definition) -> str:
    instance = state.load(definition)
    if instance is not None:
        how = f"runs as process {instance.process.pid}" if instance.process and instance.alive else "is down"
        return f"{definition.name:14} {how}, {instance.url}, {instance.place.folder}"
    if given := Handle.from_environment(definition):
        return f"{definition.name:14} is given by the environment: {given.url}"
    installed = "installed" if all(need.present() for need in definition.needs) else "not installed"
    return f"{definition.name:14} is not started ({installed}): {definition.title}"


_ACTIONS: dict[str, Callable[[Definition], str]] = {
    "install": _install,
    "start": _start,
    "stop": _stop,
    "status": _status,
    "kill": _kill,
    "restart": _restart,
}


def _names(action: str, given: Sequence[str]) -> Sequence[str]:
    """Without names: all for status and install, those that were started for stop."""
    if given or action in ("status", "install"):
        return given or NAMES
    if action == "stop":
        return [name for name in NAMES if state.load(DEFINITIONS[name])]
    raise SystemExit(f"{action} what? Give names: {', '.join(NAMES)}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Does the action for all names at the same time; 0 if all went well. Errors go to standard error."""
    parser = argparse.ArgumentParser(prog="python -m tests.servers", description="Servers for tests.")
    parser.add_argument("action", choices=_ACTIONS)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of: {', '.join(NAMES)}")
    options = parser.parse_args(arguments)
    names = _names(options.action, options.names)
    if unknown := [name for name in names if name not in DEFINITIONS]:
        parser.error(f"no such server: {', '.join(unknown)}; there are: {', '.join(NAMES)}")
    failed = 0
    with ThreadPoolExecutor(max_workers=len(NAMES)) as pool:
        for each in [pool.submit(_ACTIONS[options.action], DEFINITIONS[name]) for name in names]:
            try:
                sys.stdout.write(each.result() + "\n")
            except ServerError as error:
                failed = 1
                sys.stderr.write(f"{error}\n")
    return failed


if __name__ == "__main__":
    raise SystemExit(main())
