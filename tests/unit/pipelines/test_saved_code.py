"""Folders that diffusers' own class opens."""

from pathlib import Path

import pytest
import torch
from diffusers import DiffusionPipeline

from tests.tiny_models import tiny_pipeline
from videocrafter.checkpoints.pipeline_code import CODE_FILE, OPENING_ARGUMENTS


@pytest.fixture(autouse=True)
def code_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # diffusers copies code here before it imports it.
    monkeypatch.setattr("diffusers.utils.dynamic_modules_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.syspath_prepend(str(tmp_path / "modules"))


@pytest.mark.parametrize("kind", ["t2v", "i2v"])
def test_diffusers_opens_a_saved_folder(kind: str, request: pytest.FixtureRequest) -> None:
    pipeline, folder = request.getfixturevalue(kind), request.getfixturevalue(f"{kind}_folder")
    arguments = eval(f"dict({OPENING_ARGUMENTS})")
    opened = DiffusionPipeline.from_pretrained(folder, **arguments)
    assert type(opened) is type(pipeline)
    opened.set_progress_bar_config(disable=True)
    settings = {"prompt": "a cat", "seeds": 1, "output_type": "latent"}
    settings |= {"image": torch.zeros(3, 9, 9)} if kind == "i2v" else {}
    assert torch.equal(opened(**settings).frames, pipeline(**settings).frames)


def test_a_file_of_that_name_is_kept(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / CODE_FILE).write_text("mine")
    tiny_pipeline(image=False).save_pretrained(tmp_path / "model")
    assert (tmp_path / "model" / CODE_FILE).read_text() == "mine"
    assert (tmp_path / "model" / "model_index.json").is_file()
