"""Load folders of every kind that diffusers writes, in every dtype; report weights that are not finite."""

import json
import shutil
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from videocrafter.pipelines.image_to_video import ImageToVideoPipeline
from videocrafter.pipelines.loading import load_pipeline
from videocrafter.pipelines.model_folder import SHARED, ModelFolderError, fingerprint
from videocrafter.pipelines.text_to_video import TextToVideoPipeline

UNET_FILE = "unet/diffusion_pytorch_model.safetensors"


def dtypes(pipeline: Any) -> dict[str, torch.dtype]:
    return {name: part.dtype for name, part in pipeline.components.items() if isinstance(part, nn.Module)}


def same_weights(one: Any, other: Any) -> bool:
    return all(
        torch.equal(weight, other.components[name].state_dict()[key])
        for name, part in one.components.items()
        if isinstance(part, nn.Module)
        for key, weight in part.state_dict().items()
    )


@pytest.fixture
def shared(i2v_folder: Path, tmp_path: Path) -> Path:
    """An image-to-video folder that shares its text encoder, stored in float16."""
    folder = tmp_path / "i2v"
    shutil.copytree(i2v_folder, folder)
    load_pipeline(i2v_folder, dtype="float16").text_encoder.save_pretrained(tmp_path / "owner" / "text_encoder")
    shutil.rmtree(folder / "text_encoder")
    (folder / "text_encoder").mkdir()
    (folder / "text_encoder" / SHARED).write_text('{"model": "owner"}')
    return folder


# Variants and shards


@pytest.mark.parametrize("shard", [{}, {"max_shard_size": "20KB"}], ids=["files", "shards"])
def test_a_folder_that_holds_only_a_variant_is_loaded(
    t2v: TextToVideoPipeline, tmp_path: Path, shard: dict[str, Any]
) -> None:
    t2v.save_pretrained(tmp_path, variant="fp16", **shard)
    assert not (tmp_path / UNET_FILE).exists()
    for loaded in (
        load_pipeline(tmp_path),
        TextToVideoPipeline.from_pretrained(tmp_path),
        TextToVideoPipeline.from_pretrained(tmp_path, variant="fp16"),
    ):
        assert same_weights(loaded, t2v)


def test_every_component_may_be_in_another_variant(
    t2v: TextToVideoPipeline, t2v_folder: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "mixed"
    shutil.copytree(t2v_folder, folder)
    t2v.save_pretrained(tmp_path / "fp16", variant="fp16")
    t2v.save_pretrained(tmp_path / "bf16", variant="bf16", max_shard_size="20KB")
    for part, variant in (("unet", "fp16"), ("vae", "bf16")):
        shutil.rmtree(folder / part)
        shutil.copytree(tmp_path / variant / part, folder / part)
    assert same_weights(load_pipeline(folder), t2v)


def test_the_wanted_variant_precedes_plain_weights(
    t2v_folder: Path, t2v: TextToVideoPipeline, tmp_path: Path
) -> None:
    folder = tmp_path / "both"
    shutil.copytree(t2v_folder, folder)
    weights = load_file(folder / UNET_FILE)
    save_file({key: value * 0 for key, value in weights.items()}, folder / UNET_FILE.replace("model.", "model.zero."))
    assert same_weights(load_pipeline(folder), t2v)
    for loaded in (
        load_pipeline(folder, variant="zero"),
        TextToVideoPipeline.from_pretrained(folder, variant="zero"),
    ):
        assert not any(weight.any() for weight in loaded.unet.parameters())
        assert any(weight.any() for weight in loaded.vae.parameters())
    with pytest.raises(ModelFolderError, match="no weights of the variant 'fp16', only plain ones, zero"):
        load_pipeline(folder, variant="fp16")


def test_pickled_weights_are_refused_with_a_way_to_convert_them(t2v: TextToVideoPipeline, tmp_path: Path) -> None:
    t2v.save_pretrained(tmp_path, safe_serialization=False)
    with pytest.raises(ModelFolderError, match="pickled weights only") as caught:
        load_pipeline(tmp_path)
    while "weights_only=True" in str(caught.value):
        exec(str(caught.value).partition('python -c "')[2].rpartition('"')[0])
        try:
            loaded = load_pipeline(tmp_path)
            break
        except ModelFolderError as error:
            caught.value.args = (str(error),)
    assert same_weights(loaded, t2v)
    with pytest.raises(ValueError, match="use_safetensors=False loads pickles"):
        TextToVideoPipeline.from_pretrained(tmp_path, use_safetensors=False)


# Dtypes and quantization


def test_all_networks_have_one_dtype_unless_asked_otherwise(shared: Path) -> None:
    for arguments in ({}, {"dtype": None}, {"torch_dtype": "float32"}):
        assert set(dtypes(ImageToVideoPipeline.from_pretrained(shared, **arguments)).values()) == {torch.float32}
    assert set(dtypes(load_pipeline(shared, dtype="bfloat16")).values()) == {torch.bfloat16}
    found = dtypes(load_pipeline(shared, dtype={"text_encoder": "float16", "default": torch.bfloat16}))
    assert found.pop("text_encoder") == torch.float16
    assert set(found.values()) == {torch.bfloat16}
    found = dtypes(ImageToVideoPipeline.from_pretrained(shared, torch_dtype={"unet": torch.float16}))
    assert found.pop("unet") == torch.float16
    assert set(found.values()) == {torch.float32}


def test_unknown_dtypes_and_components_are_refused(t2v_folder: Path) -> None:
    with pytest.raises(ValueError, match="unknown dtype 'bf17'"):
        load_pipeline(t2v_folder, dtype="bf17")
    with pytest.raises(ValueError, match="unknown dtype 'half'"):
        TextToVideoPipeline.from_pretrained(t2v_folder, torch_dtype={"unet": "half"})
    with pytest.raises(ValueError, match="dtype names transformer, which the model does not have"):
        load_pipeline(t2v_folder, dtype={"transformer": "float16"})


def test_shared_components_are_quantized_and_placed_as_the_others(shared: Path) -> None:
    class Quantization:
        def _resolve_quant_config(self, *, is_diffusers: bool, module_name: str) -> object:
            raise NotImplementedError(f"{module_name} {is_diffusers}")

    with pytest.raises(NotImplementedError, match="text_encoder False"):
        ImageToVideoPipeline.from_pretrained(shared, quantization_config=Quantization())
    with pytest.raises(ValueError, match="device_map='balanced' cannot place the text_encoder"):
        ImageToVideoPipeline.from_pretrained(shared, device_map="balanced")


# Weights that are not finite


def test_weights_that_are_not_finite_are_reported(t2v_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "damaged"
    shutil.copytree(t2v_folder, folder)
    weights = load_file(folder / UNET_FILE)
    weights["conv_in.bias"][:2] = float("nan")
    weights["conv_in.weight"][0, 0, 0, 0] = 1e6
    save_file(weights, folder / UNET_FILE, metadata={"format": "pt"})
    with pytest.warns(UserWarning, match=r"unet .* 'conv_in.bias' has 2 values that are NaN or infinite; "):
        load_pipeline(folder)
    with pytest.warns(UserWarning, match=r"overflows in torch.float16: .* \(3 in 2 tensors\)"):
        load_pipeline(folder, dtype="float16")
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        load_pipeline(t2v_folder)


# Damaged configuration


@pytest.mark.parametrize(
    ("file", "entry", "value"),
    [
        ("model_index.json", "unet", [["a"], {}]),
        ("model_index.json", "unet", None),
        ("model_index.json", "knowledge", {"subjects": [1]}),
        ("model_index.json", "defaults", {"num_frames": "x"}),
        ("model_index.json", "defaults", {"fps_range": [1]}),
        ("model_index.json", "signal_scale", "x"),
        ("model_index.json", "_class_name", ["TextToVideoPipeline"]),
        ("unet/config.json", "num_res_blocks", "x"),
        ("unet/config.json", "head_dim", 10**400),
        ("vae/config.json", "block_out_channels", -1),
        ("vae/config.json", "mid_block_add_attention", [[]]),
        ("text_encoder/config.json", "eos_token_id", [1, 2]),
        ("scheduler/scheduler_config.json", "prediction_type", "x"),
    ],
)
def test_wrong_entries_are_named(t2v_folder: Path, tmp_path: Path, file: str, entry: str, value: object) -> None:
    folder = tmp_path / "damaged"
    shutil.copytree(t2v_folder, folder)
    content = json.loads((folder / file).read_text())
    (folder / file).write_text(json.dumps({**content, entry: value}))
    with pytest.raises(ModelFolderError):
        load_pipeline(folder)


def test_reading_changes_nothing(t2v_folder: Path) -> None:
    before = fingerprint(t2v_folder)
    load_pipeline(t2v_folder)
    assert fingerprint(t2v_folder) == before
