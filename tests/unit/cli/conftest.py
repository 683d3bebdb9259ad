"""Tiny model folders, and a way to call the command line inside the test's own process."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.command_line import Result, call
from tests.tiny_models import save_tiny_pipeline

Run = Callable[..., Result]


@pytest.fixture(scope="session")
def t2v_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_pipeline(tmp_path_factory.mktemp("models") / "t2v", image=False)


@pytest.fixture(scope="session")
def i2v_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_pipeline(tmp_path_factory.mktemp("models") / "i2v", image=True)


@pytest.fixture
def cli() -> Run:
    """Call the command line; a bug's exception comes through instead of becoming an exit status."""

    def run(*arguments: object) -> Result:
        return call(arguments)

    return run


@pytest.fixture
def make(cli: Run, t2v_folder: Path, tmp_path: Path) -> Run:
    """`videocrafter generate` with the tiny model, in an empty folder."""

    def run(*arguments: object) -> Result:
        return cli("generate", "--model", t2v_folder, *arguments)

    return run
