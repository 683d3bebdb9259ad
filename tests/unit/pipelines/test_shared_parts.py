"""Sibling pipeline folders that share components."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.tiny_models import save_tiny_pipeline
from videocrafter.pipelines.generation_memory import count_parameters, network_configs
from videocrafter.pipelines.image_to_video import ImageToVideoPipeline
from videocrafter.pipelines.loading import load_pipeline
from videocrafter.pipelines.model_folder import SHARED, ModelFolderError, component_folder, shared_components

PARTS = ("vae", "text_encoder", "tokenizer")


@pytest.fixture
def sharing(tmp_path: Path) -> Path:
    """An image-to-video folder that shares `PARTS` with its sibling folder "owner"."""
    folder = save_tiny_pipeline(tmp_path / "i2v", image=True)
    for part in PARTS:
        shutil.copytree(folder / part, tmp_path / "owner" / part)
        shutil.rmtree(folder / part)
        (folder / part).mkdir()
        (folder / part / SHARED).write_text('{"model": "owner"}')
    return folder


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_a_shared_part_is_loaded_from_where_it_is(sharing: Path, tmp_path: Path, dtype: torch.dtype) -> None:
    assert shared_components(sharing) == {part: tmp_path / "owner" / part for part in PARTS}
    assert component_folder(sharing, "unet") == sharing / "unet"
    pipeline = load_pipeline(sharing, dtype=dtype)
    complete = ImageToVideoPipeline.from_pretrained(
        save_tiny_pipeline(tmp_path / "whole", image=True), torch_dtype=dtype
    )
    assert {pipeline.vae.dtype, pipeline.text_encoder.dtype} == {dtype}
    for part in ("vae", "text_encoder"):
        loaded, wanted = getattr(pipeline, part).state_dict(), getattr(complete, part).state_dict()
        assert all(torch.equal(loaded[name], weight) for name, weight in wanted.items())
    assert pipeline.tokenizer("a cat")["input_ids"] == complete.tokenizer("a cat")["input_ids"]


def test_memory_is_counted_as_if_nothing_were_shared(sharing: Path, tmp_path: Path) -> None:
    whole = save_tiny_pipeline(tmp_path / "whole", image=True)
    assert count_parameters(sharing) == count_parameters(whole)
    assert network_configs(sharing)[1]["latent_channels"] == network_configs(whole)[1]["latent_channels"]


def test_saving_again_gives_a_folder_that_stands_alone(sharing: Path, tmp_path: Path) -> None:
    load_pipeline(sharing).save_pretrained(tmp_path / "elsewhere" / "i2v")
    shutil.rmtree(tmp_path / "owner")
    assert shared_components(tmp_path / "elsewhere" / "i2v") == {}
    load_pipeline(tmp_path / "elsewhere" / "i2v")


def test_a_missing_owner_is_named(sharing: Path, tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "owner" / "vae")
    with pytest.raises(ModelFolderError, match=r"i2v/vae refers to .*owner/vae, which is missing"):
        load_pipeline(sharing)


def test_shared_weights_that_do_not_fit_are_refused(sharing: Path, tmp_path: Path) -> None:
    weights = tmp_path / "owner" / "text_encoder" / "model.safetensors"
    tensors = load_file(weights)
    lost = next(name for name in tensors if name.endswith("final_layer_norm.weight"))
    del tensors[lost]
    save_file(tensors, weights, metadata={"format": "pt"})
    with pytest.raises(ModelFolderError, match=r"owner/text_encoder lack 1 tensors"):
        load_pipeline(sharing)


@pytest.mark.parametrize("owner", ["../owner", "/etc", "", "..", None, ["owner"]])
def test_only_a_folder_beside_it_can_be_the_owner(sharing: Path, owner: object) -> None:
    (sharing / "vae" / SHARED).write_text(json.dumps({"model": owner}))
    with pytest.raises(ModelFolderError, match="vae"):
        load_pipeline(sharing)


def test_a_part_is_not_passed_on(sharing: Path, tmp_path: Path) -> None:
    (tmp_path / "owner" / "vae" / SHARED).write_text('{"model": "other"}')
    with pytest.raises(ModelFolderError, match="which is missing"):
        load_pipeline(sharing)
