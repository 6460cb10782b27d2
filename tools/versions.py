"""Run the tests that need no server on other versions of CPython: `python tools/versions.py 3.12 3.13`.

Each gets an environment of its own (`.venv-3.12`). A version that is not installed is said and left out.
"""

import os
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
TESTS = (
    "-m",
    "pytest",
    "-q",
    "-n",
    "2",
    "--dist",
    "worksteal",
    "--no-servers",
    "-p",
    "no:cacheprovider",
    "-r",
    "fE",
)


def found(version: str) -> str | None:
    """An interpreter of this version: on the path, or one of pyenv's."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    for each in (f"python{version}", *sorted(map(str, pyenv.glob(f"{version}.*/bin/python")), reverse=True)):
        ask = [each, "-c", "import sys; print('%d.%d' % sys.version_info[:2], sys.executable)"]
        try:
            told, _, path = subprocess.run(ask, capture_output=True, text=True, check=True).stdout.partition(" ")  # noqa: S603
        except (OSError, subprocess.CalledProcessError):
            continue  # not there, or a shim of pyenv for a version that is not chosen
        if told == version:
            return path.strip()
    return None


def environment(version: str, python: str) -> str:
    """The Python of an environment with msgbus and what its tests need."""
    folder, groups = ROOT / f".venv-{version}", tomllib.loads((ROOT / "pyproject.toml").read_text())
    inside = folder / "bin" / "python"
    if not inside.exists():
        subprocess.run([python, "-m", "venv", "--without-pip", str(folder)], check=True)  # noqa: S603
    pip = [sys.executable, "-m", "pip"] if _has_pip(sys.executable) else [python, "-m", "pip"]
    wanted = [*groups["dependency-groups"]["test"], *(each for each in groups["dependency-groups"]["check"])]
    install = [*pip, "--python", str(inside), "--disable-pip-version-check", "install", "--quiet"]
    subprocess.run([*install, "--editable", f"{ROOT}[all]", *wanted], check=True)  # noqa: S603
    return str(inside)


def _has_pip(python: str) -> bool:
    return subprocess.run([python, "-m", "pip", "--version"], capture_output=True, check=False).returncode == 0  # noqa: S603


def main(versions: list[str]) -> int:
    """0 if the tests pass on every version that is there."""
    failed = []
    for version in versions:
        python = found(version)
        if python is None:
            sys.stdout.write(f"CPython {version} is not installed: left out\n")
            continue
        sys.stdout.write(f"CPython {version}, {python}\n")
        sys.stdout.flush()
        if subprocess.run([environment(version, python), *TESTS], cwd=ROOT, check=False).returncode:  # noqa: S603
            failed.append(version)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
