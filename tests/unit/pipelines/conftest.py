"""One tiny pipeline of each kind, shared by the tests of this folder; a test that changes one builds its own."""

from pathlib import Path

import pytest

from tests.tiny_models import save_tiny_pipeline, tiny_pipeline
from videocrafter.pipelines.image_to_video import ImageToVideoPipeline
from videocrafter.pipelines.text_to_video import TextToVideoPipeline


@pytest.fixture(scope="session")
def t2v() -> TextToVideoPipeline:
    return tiny_pipeline(image=False)


@pytest.fixture(scope="session")
def i2v() -> ImageToVideoPipeline:
    return tiny_pipeline(image=True)


@pytest.fixture(scope="session")
def t2v_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_pipeline(tmp_path_factory.mktemp("models") / "t2v", image=False)


@pytest.fixture(scope="session")
def i2v_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_pipeline(tmp_path_factory.mktemp("models") / "i2v", image=True)
