"""What is installed is what is needed: assets, licences, and every library that is imported, at a known version."""

import ast
import re
import sys
from pathlib import Path

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "videocrafter"
SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT = SETTINGS["project"]
EXTRAS = PROJECT["optional-dependencies"]
DISTRIBUTIONS = {"PIL": "pillow", "yaml": "pyyaml"}
"""Where the name to import is not the name to install."""
UNSEEN = {"tensorboard": "torch.utils.tensorboard writes for it"}
"""Libraries that are needed although nothing imports them by name."""


def distribution(requirement: str) -> str:
    """The normal form of a requirement's name, without extras, versions and conditions."""
    return re.split(r"[\s\[<>=!~;]", requirement, maxsplit=1)[0].lower().replace("_", "-")


def imported(folder: Path) -> set[str]:
    """Distributions outside the standard library that the files below a folder import."""
    found: set[str] = set()
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                found.add(node.module.partition(".")[0])
    others = found - set(sys.stdlib_module_names) - {"videocrafter", "__future__"}
    return {DISTRIBUTIONS.get(name, name).lower().replace("_", "-") for name in others}


REQUIRED = {distribution(one) for one in PROJECT["dependencies"]}
OPTIONAL = {distribution(one) for extra in ("train", "eval", "deepspeed", "web") for one in EXTRAS[extra]}


# Made for one's GPU, as torch is, and only looked for where a setting names it.
BROUGHT_BY_USERS = {"bitsandbytes"}


def test_everything_that_is_imported_is_asked_for():
    assert imported(PACKAGE) - REQUIRED - OPTIONAL == BROUGHT_BY_USERS


def test_nothing_is_asked_for_that_is_not_imported():
    assert REQUIRED - imported(PACKAGE) - set(UNSEEN) == set()


@pytest.mark.parametrize("extra", [None, *EXTRAS])
def test_every_dependency_has_a_tested_version(extra: str | None):
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = {distribution(line) for line in lines if "==" in line and not line.startswith("#")}
    wanted = PROJECT["dependencies"] if extra is None else EXTRAS[extra]
    assert {distribution(one) for one in wanted} - pinned - {"videocrafter"} == set()


def test_every_asset_is_packed():
    patterns = SETTINGS["tool"]["setuptools"]["package-data"]["videocrafter"]
    packed = {path for pattern in patterns for path in PACKAGE.glob(pattern)}
    files = {path for path in PACKAGE.rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc")}
    assert {str(path.relative_to(PACKAGE)) for path in files - packed} == set()


def test_what_others_made_brings_its_licence():
    folders = [path for path in (PACKAGE / "assets").iterdir() if path.is_dir() and path.name != "__pycache__"]
    assert len(folders) > 1
    own = {"models"}
    assert [path.name for path in folders if path.name not in own and not list(path.glob("LICENSE*"))] == []
