"""Convert pipeline folders to checkpoints."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from tests.official_checkpoints import save_checkpoint, small_checkpoint
from tests.tiny_models import save_tiny_pipeline
from videocrafter.checkpoints.official.to_folder import EXTRAS_FILE, convert_to_folder
from videocrafter.checkpoints.official.to_official import convert_to_official, plan_official

pytestmark = pytest.mark.usefixtures("one_tokenizer")

VARIANTS = {
    "scaled": {},
    "unscaled": {"scale": None, "fps_cond": False, "temporal_conv": False, "use_relative_position": True},
    "image": {"image": True},
    "five levels": {"channel_mult": [1, 2, 1, 2, 1], "attention_resolutions": [1, 16]},
}


def folder_of(tmp_path: Path, tensors: dict[str, Tensor], **options) -> Path:
    return convert_to_folder(save_checkpoint(tmp_path / "model.ckpt", tensors), tmp_path / "model", **options).path


def read(path: Path) -> dict[str, Tensor]:
    return torch.load(path, weights_only=True)["state_dict"]


def assert_same(got: dict[str, Tensor], wanted: dict[str, Tensor]) -> None:
    assert got.keys() == wanted.keys()
    different = [
        key for key in wanted if got[key].dtype != wanted[key].dtype or not torch.equal(got[key], wanted[key])
    ]
    assert different == []


@pytest.mark.parametrize("name", VARIANTS)
def test_there_and_back_changes_no_bit(tmp_path: Path, name: str):
    tensors = small_checkpoint(**VARIANTS[name])
    done = convert_to_official(folder_of(tmp_path, tensors), tmp_path / "back.ckpt")
    assert_same(read(tmp_path / "back.ckpt"), tensors)
    assert done.num_bytes == sum(value.nbytes for value in tensors.values())
    assert done.notes == ()


def test_precisions_come_back_too(tmp_path: Path):
    tensors = {key: value.half() if "diffusion_model" in key else value for key, value in small_checkpoint().items()}
    convert_to_official(folder_of(tmp_path, tensors), tmp_path / "back.ckpt")
    assert_same(read(tmp_path / "back.ckpt"), tensors)


def test_the_long_buffer_of_the_first_releases_comes_back(tmp_path: Path):
    tensors = small_checkpoint()
    tensors["scale_arr"] = torch.cat([tensors["scale_arr"], torch.full((400,), 0.7)])
    for drop_unused in (False, True):
        (tmp_path / str(drop_unused)).mkdir()
        folder = folder_of(tmp_path / str(drop_unused), tensors, drop_unused=drop_unused)
        convert_to_official(folder, tmp_path / f"{drop_unused}.ckpt")
        assert_same(
            {"scale_arr": read(tmp_path / f"{drop_unused}.ckpt")["scale_arr"]}, {"scale_arr": tensors["scale_arr"]}
        )


def test_safetensors_as_the_target(tmp_path: Path):
    tensors = small_checkpoint()
    convert_to_official(folder_of(tmp_path, tensors), tmp_path / "back.safetensors")
    assert_same(load_file(tmp_path / "back.safetensors"), tensors)


def test_a_pruned_checkpoint_stays_pruned(tmp_path: Path):
    tensors = {key: value for key, value in small_checkpoint().items() if not key.endswith(("logit_scale", "betas"))}
    convert_to_official(folder_of(tmp_path, tensors), tmp_path / "back.ckpt")
    assert_same(read(tmp_path / "back.ckpt"), tensors)


@pytest.mark.parametrize(("name", "has_schedule"), [("scaled", True), ("unscaled", False), ("image", False)])
def test_what_is_missing_is_filled_so_that_the_official_code_loads_it(tmp_path: Path, name: str, has_schedule: bool):
    tensors = small_checkpoint(**VARIANTS[name])
    folder = folder_of(tmp_path, tensors, drop_unused=True)
    if not has_schedule:
        (folder / EXTRAS_FILE).unlink()
    done = convert_to_official(folder, tmp_path / "back.ckpt")
    got = read(tmp_path / "back.ckpt")
    assert got.keys() == tensors.keys()
    assert {key: value.shape for key, value in got.items()} == {key: value.shape for key, value in tensors.items()}
    assert any("that the official code loads but never uses" in note for note in done.notes)
    last_block = "cond_stage_model.model.transformer.resblocks.1."
    assert bool((got[f"{last_block}ln_1.weight"] == 1).all())
    assert bool((got[f"{last_block}attn.in_proj_weight"] == 0).all())
    schedule = [key for key in tensors if "." not in key]
    assert_same({key: got[key] for key in schedule}, {key: tensors[key] for key in schedule})
    again = convert_to_folder(tmp_path / "back.ckpt", tmp_path / "again")
    assert again.description == done.description


def test_sharded_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    tensors = small_checkpoint()
    monkeypatch.setattr("videocrafter.checkpoints.tensor_file.LARGEST_SHARD", 300_000)
    folder = folder_of(tmp_path, tensors)
    assert len(list((folder / "unet").glob("*.safetensors"))) > 1
    convert_to_official(folder, tmp_path / "back.ckpt")
    assert_same(read(tmp_path / "back.ckpt"), tensors)


def test_progress_never_passes_the_end(tmp_path: Path):
    steps: list[tuple[int, int]] = []
    folder = folder_of(tmp_path, small_checkpoint())
    done = convert_to_official(folder, tmp_path / "back.ckpt", on_progress=lambda *step: steps.append(step))
    assert [written for written, _ in steps] == sorted(written for written, _ in steps)
    assert steps[-1] == (done.num_bytes, done.num_bytes)


# Refused


def test_targets(tmp_path: Path):
    folder = folder_of(tmp_path, small_checkpoint())
    with pytest.raises(ValueError, match=r"must end in \.ckpt"):
        convert_to_official(folder, tmp_path / "back")
    with pytest.raises(ValueError, match="already exists"):
        convert_to_official(folder, tmp_path / "model.ckpt")
    convert_to_official(folder, tmp_path / "model.ckpt", overwrite=True)


@pytest.mark.parametrize(
    ("part", "entries"),
    [
        ("unet", {"model_channels": None}),
        ("unet", {"num_res_blocks": "2"}),
        ("vae", {"block_out_channels": []}),
        ("text_encoder", {"vocab_size": "many"}),
        ("text_encoder", {"num_hidden_layers": None}),
    ],
)
def test_damaged_configs(tmp_path: Path, part: str, entries: dict[str, Any]):
    folder = folder_of(tmp_path, small_checkpoint())
    config = folder / part / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | entries))
    with pytest.raises(ValueError, match=r"cannot be converted: a config in it is damaged \(.*\); ") as caught:
        plan_official(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("image", [False, True])
def test_models_with_no_counterpart(tmp_path: Path, image: bool):
    folder = save_tiny_pipeline(tmp_path / "tiny", image)
    with pytest.raises(ValueError, match=r"tiny cannot be converted: unet: .*; this model cannot be converted to it"):
        plan_official(folder)


def test_damaged_folders(tmp_path: Path):
    folder = folder_of(tmp_path, small_checkpoint())
    vae, unet = (folder / part / "diffusion_pytorch_model.safetensors" for part in ("vae", "unet"))
    whole = vae.read_bytes()
    vae.write_bytes(whole[:-10])
    with pytest.raises(ValueError, match=r"diffusion_pytorch_model\.safetensors is a truncated or damaged"):
        plan_official(folder)
    vae.write_bytes(unet.read_bytes())
    with pytest.raises(ValueError, match="its vae does not match its config: "):
        plan_official(folder)
    vae.unlink()
    with pytest.raises(ValueError, match=r"vae has no weights named diffusion_pytorch_model\.safetensors"):
        plan_official(folder)
