"""Fixtures for video tasks; makes the toy task importable here and in processes that tests start."""

import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent
if str(FOLDER) not in sys.path:
    sys.path.insert(0, str(FOLDER))


@pytest.fixture(scope="session")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a random autoencoder and random towers."""
    from tests.tiny_parts import save_parts

    return save_parts(tmp_path_factory.mktemp("parts"))


@pytest.fixture(scope="session")
def t2v_start(tmp_path_factory: pytest.TempPathFactory, parts: Path) -> Path:
    """A text-to-video pipeline folder whose network responds to every condition."""
    from tests.tiny_parts import fill_zeros, video_task

    folder = tmp_path_factory.mktemp("t2v")
    task = video_task(parts)
    fill_zeros(task.unet)
    task.save_pipeline(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_t2v(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A text-to-video pipeline folder that training on clips starts from."""
    from tests.tiny_models import save_tiny_pipeline

    return save_tiny_pipeline(tmp_path_factory.mktemp("tiny") / "t2v", image=False)


@pytest.fixture(scope="session")
def tiny_i2v(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same for image to video."""
    from tests.tiny_models import save_tiny_pipeline

    return save_tiny_pipeline(tmp_path_factory.mktemp("tiny") / "i2v", image=True)
