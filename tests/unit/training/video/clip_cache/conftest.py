from __future__ import annotations

from pathlib import Path

import pytest

from tests.tiny_models import save_tiny_pipeline


@pytest.fixture(scope="session")
def t2v_start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_pipeline(tmp_path_factory.mktemp("start") / "t2v", image=False)


@pytest.fixture(scope="session")
def i2v_start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_pipeline(tmp_path_factory.mktemp("start") / "i2v", image=True)
