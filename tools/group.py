"""Print the requirements of one dependency group of pyproject.toml, for pips that don't know `--group` yet."""

import sys
import tomllib
from pathlib import Path

groups = tomllib.loads(Path("pyproject.toml").read_text())["dependency-groups"]
sys.stdout.write(" ".join(groups.get(sys.argv[1], [])))
