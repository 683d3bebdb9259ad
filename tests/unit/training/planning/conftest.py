"""Pipelines with a few thousand parameters, and a planner shared by all tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.tiny_models import save_tiny_pipeline
from videocrafter.training.planning.plan import Planner


@pytest.fixture(scope="session")
def t2v(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_pipeline(tmp_path_factory.mktemp("planned") / "t2v", image=False)


@pytest.fixture(scope="session")
def i2v(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_pipeline(tmp_path_factory.mktemp("planned") / "i2v", image=True)


@pytest.fixture(scope="session")
def planner() -> Planner:
    return Planner()
