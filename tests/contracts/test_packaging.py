"""The package contains its assets and licences, and declares the libraries that it imports."""

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
DISTRIBUTIONS = {
    "PIL": "pillow",
    "yaml": "pyyaml",
    "cv2": "opencv-python-headless",
    "scenedetect": "scenedetect-headless",
}
"""Distributions whose name differs from that of their module."""
UNSEEN = {"tensorboard": "torch.utils.tensorboard writes for it"}
"""Required libraries that no module of the package imports directly."""


def distribution(requirement: str) -> str:
    """A requirement's normalised name, without extras, versions and markers."""
    return re.split(r"[\s\[<>=!~;]", requirement, maxsplit=1)[0].lower().replace("_", "-")


def imported(folder: Path) -> set[str]:
    """Distributions outside the standard library that the files in a folder import."""
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
OPTIONAL = {distribution(one) for extra in EXTRAS if extra != "dev" for one in EXTRAS[extra]}


# Imported only if a setting names them: one depends on the user's GPU, the other contains networks of 27 MB.
INSTALLED_BY_USERS = {"bitsandbytes", "rapidocr"}


def test_every_import_is_a_declared_dependency():
    assert imported(PACKAGE) - REQUIRED - OPTIONAL == INSTALLED_BY_USERS


def test_every_dependency_is_imported():
    assert REQUIRED - imported(PACKAGE) - set(UNSEEN) == set()


@pytest.mark.parametrize("extra", [None, *EXTRAS])
def test_every_dependency_has_a_tested_version(extra: str | None):
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = {distribution(line) for line in lines if "==" in line and not line.startswith("#")}
    wanted = PROJECT["dependencies"] if extra is None else EXTRAS[extra]
    assert {distribution(one) for one in wanted} - pinned - {"videocrafter"} == set()


def test_every_asset_is_in_the_wheel():
    patterns = SETTINGS["tool"]["setuptools"]["package-data"]["videocrafter"]
    packed = {path for pattern in patterns for path in PACKAGE.glob(pattern)}
    files = {path for path in PACKAGE.rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc")}
    assert {str(path.relative_to(PACKAGE)) for path in files - packed} == set()


def test_the_assets_are_at_most_60_mb():
    assert sum(path.stat().st_size for path in (PACKAGE / "assets").rglob("*") if path.is_file()) <= 60e6


def test_assets_of_others_come_with_their_licence():
    folders = [path for path in (PACKAGE / "assets").iterdir() if path.is_dir() and path.name != "__pycache__"]
    assert len(folders) > 1
    own = {"models", "prompts"}
    assert [path.name for path in folders if path.name not in own and not list(path.glob("LICENSE*"))] == []


def test_type_checkers_see_what_classes_inherit_from_diffusers():
    # Packages of diffusers that hide missing libraries show type checkers a dummy for each of their names, so a base
    # class must be imported from the module that defines it.
    hidden = {"diffusers", "diffusers.loaders", "diffusers.models", "diffusers.pipelines", "diffusers.schedulers"}
    wrong = []
    for path in PACKAGE.rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        dummies = {
            alias.asname or alias.name
            for node in ast.walk(tree)
            if isinstance(node, ast.ImportFrom) and node.module in hidden
            for alias in node.names
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                bases = {base.id for base in node.bases if isinstance(base, ast.Name)}
                wrong += [f"{path.name}: {node.name}({name})" for name in bases & dummies]
    assert wrong == []
    assert (PACKAGE / "py.typed").is_file()
