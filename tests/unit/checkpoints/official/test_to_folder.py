"""Convert checkpoints to pipeline folders."""

import json
from collections import namedtuple
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from tests.official_checkpoints import save_checkpoint, small_checkpoint, small_params, write_config
from videocrafter.checkpoints import tensor_file
from videocrafter.checkpoints.official.to_folder import EXTRAS_FILE, convert_to_folder, plan_pipeline_folder
from videocrafter.diffusion.ddim import OfficialDDIMScheduler

pytestmark = pytest.mark.usefixtures("one_tokenizer")


@pytest.fixture(scope="module")
def t2v() -> dict[str, Tensor]:
    return small_checkpoint()


@pytest.fixture
def source(tmp_path: Path, t2v: dict[str, Tensor]) -> Path:
    return save_checkpoint(tmp_path / "model.ckpt", t2v)


def weights(folder: Path) -> dict[str, Tensor]:
    return {
        f"{path.parent.name}/{name}": value
        for path in folder.glob("*/*.safetensors")
        for name, value in load_file(path).items()
    }


def index(folder: Path) -> dict:
    return json.loads((folder / "model_index.json").read_text())


def test_the_folder_holds_every_part(source: Path, tmp_path: Path):
    done = convert_to_folder(source, tmp_path / "model")
    assert done.path == tmp_path / "model"
    assert done.preset is None
    assert set(done.parts) == {"unet", "vae", "text_encoder"}
    stored = weights(done.path)
    for part, count in done.parts.items():
        assert count == sum(value.numel() for name, value in stored.items() if name.startswith(f"{part}/"))
    assert index(done.path)["_class_name"] == "TextToVideoPipeline"
    assert index(done.path)["signal_scale"] == 0.7
    scheduler = OfficialDDIMScheduler.from_pretrained(done.path / "scheduler")
    assert scheduler.config.signal_scale == 0.7
    assert scheduler.config.trained_betas == OfficialDDIMScheduler(signal_scale=0.7).config.trained_betas
    with safe_open(done.path / EXTRAS_FILE, framework="pt") as file:
        assert len(file.keys()) == done.num_extras
    stored_bytes = sum(value.nbytes for value in [*stored.values(), *load_file(done.path / EXTRAS_FILE).values()])
    assert done.num_bytes == stored_bytes


def test_values_arrive_unchanged(source: Path, t2v: dict[str, Tensor], tmp_path: Path):
    stored = weights(convert_to_folder(source, tmp_path / "model").path)
    out = "model.diffusion_model.out.2.weight"
    assert torch.equal(stored["unet/conv_out.weight"], t2v[out])
    rows = t2v["cond_stage_model.model.transformer.resblocks.0.attn.in_proj_weight"].chunk(3)
    for name, row in zip("qkv", rows, strict=True):
        assert torch.equal(stored[f"text_encoder/encoder.layers.0.self_attn.{name}_proj.weight"], row)


def test_text_towers_are_padded_with_zero(source: Path, tmp_path: Path):
    folder = convert_to_folder(source, tmp_path / "model").path
    config = json.loads((folder / "text_encoder" / "config.json").read_text())
    assert (config["pad_token_id"], config["hidden_act"], config["num_hidden_layers"]) == (0, "gelu", 1)


def test_models_without_a_scale_have_none(tmp_path: Path):
    source = save_checkpoint(tmp_path / "model.ckpt", small_checkpoint(scale=None))
    folder = convert_to_folder(source, tmp_path / "model").path
    assert index(folder)["signal_scale"] is None
    assert json.loads((folder / "scheduler" / "scheduler_config.json").read_text())["signal_scale"] == 1.0


def test_the_image_branch_makes_another_pipeline(tmp_path: Path):
    source = save_checkpoint(tmp_path / "model.ckpt", small_checkpoint(image=True))
    done = convert_to_folder(source, tmp_path / "model")
    assert index(done.path)["_class_name"] == "ImageToVideoPipeline"
    assert {"image_encoder", "image_projector"} <= set(done.parts)


def test_precision_is_converted_and_said(source: Path, tmp_path: Path):
    done = convert_to_folder(source, tmp_path / "half", dtype=torch.bfloat16)
    assert {value.dtype for value in weights(done.path).values()} == {torch.bfloat16}
    assert any("converted to bfloat16" in note for note in done.notes)
    extras = load_file(done.path / EXTRAS_FILE)
    assert extras["alphas_cumprod"].dtype == torch.float32, "the schedule keeps its precision"
    assert extras["cond_stage_model.model.text_projection"].dtype == torch.bfloat16
    same = convert_to_folder(source, tmp_path / "same", dtype=torch.float32)
    assert not any("converted" in note for note in same.notes)


def test_unused_tensors_can_be_left_out(source: Path, tmp_path: Path):
    done = convert_to_folder(source, tmp_path / "model", drop_unused=True)
    assert all("." not in key for key in load_file(done.path / EXTRAS_FILE)), "only the tiny schedule stays"
    assert any("omitted" in note for note in done.notes)


def test_averaged_weights_on_demand(tmp_path: Path, t2v: dict[str, Tensor]):
    key, average = "model.diffusion_model.out.2.weight", "model_ema.diffusion_modelout2weight"
    averaged = torch.zeros_like(t2v[key])
    source = save_checkpoint(tmp_path / "model.ckpt", {**t2v, average: averaged})
    plain = convert_to_folder(source, tmp_path / "plain")
    assert torch.equal(weights(plain.path)["unet/conv_out.weight"], t2v[key])
    assert average in load_file(plain.path / EXTRAS_FILE)
    assert any("--ema" in note for note in plain.notes)
    smooth = convert_to_folder(source, tmp_path / "smooth", ema=True)
    assert torch.equal(weights(smooth.path)["unet/conv_out.weight"], averaged)


def test_large_parts_are_written_in_shards(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    whole = weights(convert_to_folder(source, tmp_path / "whole").path)
    monkeypatch.setattr(tensor_file, "LARGEST_SHARD", 500_000)
    folder = convert_to_folder(source, tmp_path / "sharded").path
    assert len(list((folder / "unet").glob("diffusion_pytorch_model-*-of-*.safetensors"))) > 1
    assert (folder / "vae" / "diffusion_pytorch_model.safetensors.index.json").is_file()
    stored = weights(folder)
    assert stored.keys() == whole.keys()
    assert all(torch.equal(stored[name], value) for name, value in whole.items())


def test_progress_reaches_the_end(source: Path, tmp_path: Path):
    steps: list[tuple[int, int]] = []
    done = convert_to_folder(source, tmp_path / "model", on_progress=lambda *step: steps.append(step))
    assert [total for _, total in steps] == [done.num_bytes] * len(steps)
    assert [written for written, _ in steps] == sorted(written for written, _ in steps)
    assert steps[-1] == (done.num_bytes, done.num_bytes)


def test_wrapped_checkpoints_and_safetensors(tmp_path: Path, t2v: dict[str, Tensor]):
    plain = weights(convert_to_folder(save_checkpoint(tmp_path / "a.ckpt", t2v), tmp_path / "a").path)
    torch.save({"module": {f"_forward_module.{key}": value for key, value in t2v.items()}}, tmp_path / "b.pt")
    save_file(t2v, tmp_path / "c.safetensors")
    for name in ("b.pt", "c.safetensors"):
        done = convert_to_folder(tmp_path / name, tmp_path / name[0])
        stored = weights(done.path)
        assert all(torch.equal(stored[key], value) for key, value in plain.items())
        assert any("DeepSpeed" in note for note in done.notes) == (name == "b.pt")


# Failures leave nothing behind


def test_bad_sources_name_the_file(tmp_path: Path, t2v: dict[str, Tensor]):
    missing = {key: value for key, value in t2v.items() if key != "model.diffusion_model.out.0.bias"}
    source = save_checkpoint(tmp_path / "missing.ckpt", missing)
    with pytest.raises(ValueError, match=r"missing\.ckpt cannot be converted: .*lacks 1 key \(denoiser 1: model\."):
        plan_pipeline_folder(source)


def test_shapes_that_do_not_fit(tmp_path: Path, t2v: dict[str, Tensor]):
    source = save_checkpoint(tmp_path / "odd.ckpt", {**t2v, "model.diffusion_model.out.0.bias": torch.ones(7)})
    with pytest.raises(
        ValueError, match=r"its unet does not match its config: norm_out\.bias has shape \(7,\) in the checkpoint"
    ):
        plan_pipeline_folder(source)


def test_a_config_that_does_not_fit(source: Path, tmp_path: Path):
    config = write_config(tmp_path / "other.yaml", small_params(temporal_conv=False))
    with pytest.raises(ValueError, match=r"keys that belong to no network .*temopral_conv.*--config"):
        plan_pipeline_folder(source, config=config)


def test_values_that_leave_the_range_stop_the_conversion(tmp_path: Path, t2v: dict[str, Tensor]):
    key = "model.diffusion_model.out.2.weight"
    source = save_checkpoint(tmp_path / "model.ckpt", {**t2v, key: torch.full_like(t2v[key], 1e5)})
    with pytest.raises(ValueError, match="too large for float16"):
        convert_to_folder(source, tmp_path / "model", dtype=torch.float16)
    assert [path.name for path in tmp_path.iterdir()] == ["model.ckpt"]


def test_nothing_is_overwritten_unasked(source: Path, tmp_path: Path):
    convert_to_folder(source, tmp_path / "model")
    with pytest.raises(ValueError, match="already exists"):
        convert_to_folder(source, tmp_path / "model")
    convert_to_folder(source, tmp_path / "model", overwrite=True, drop_unused=True)
    assert {path.name for path in tmp_path.iterdir()} == {"model.ckpt", "model"}


def test_the_source_inside_of_the_target_is_not_destroyed(source: Path, tmp_path: Path):
    folder = convert_to_folder(source, tmp_path / "model").path
    inside = source.rename(folder / "model.ckpt")
    with pytest.raises(ValueError, match="holds the source checkpoint"):
        convert_to_folder(inside, folder, overwrite=True)
    assert inside.is_file()


def test_a_full_disk_is_said_before_anything_is_written(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage(10**9, 10**9, 1000))
    with pytest.raises(OSError, match="GB free, but model needs"):
        convert_to_folder(source, tmp_path / "model")
    assert [path.name for path in tmp_path.iterdir()] == ["model.ckpt"]
