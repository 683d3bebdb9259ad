"""Read the configs of a pipeline folder as an official model."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.official_checkpoints import save_checkpoint, small_checkpoint, small_params
from videocrafter.checkpoints.official.folder_configs import read_folder_configs
from videocrafter.checkpoints.official.official_model import official_model_from_config
from videocrafter.checkpoints.official.to_folder import convert_to_folder


@pytest.fixture(scope="module", params=[False, True], ids=["t2v", "i2v"])
def converted(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bool]:
    work = tmp_path_factory.mktemp("converted")
    source = save_checkpoint(work / "model.ckpt", small_checkpoint(image=request.param))
    return convert_to_folder(source, work / "model").path, request.param


@pytest.fixture
def folder(tmp_path: Path, converted: tuple[Path, bool]) -> Path:
    """A copy of the configs without weights, for changes."""
    for path in converted[0].rglob("*.json"):
        target = tmp_path / path.relative_to(converted[0])
        target.parent.mkdir(exist_ok=True)
        target.write_bytes(path.read_bytes())
    return tmp_path


def change(path: Path, **entries: Any) -> None:
    content = json.loads(path.read_text()) | entries
    path.write_text(json.dumps(content))


def test_a_converted_folder_is_the_model_it_came_from(converted: tuple[Path, bool]):
    model, notes = read_folder_configs(converted[0], scale_length=1000)
    wanted = official_model_from_config(small_params(image=converted[1]))
    for name in ("unet", "image_projector", "text_blocks", "signal_scale", "signal_scale_length"):
        assert getattr(model, name) == getattr(wanted, name), name
    for name in ("vae", "text_encoder", "image_encoder"):
        given, original = (json.loads(json.dumps(getattr(one, name) or {})) for one in (model, wanted))
        assert {key: given[key] for key in original} == original, name
    assert notes == []


@pytest.mark.parametrize(
    ("part", "entries", "reason"),
    [
        ("unet", {"frame_text_condition": True}, "frame_text_condition is True"),
        ("unet", {"norm_groups": 16}, "norm_groups is 16"),
        ("unet", {"initial_temporal_heads": 4}, "initial_temporal_heads is 4"),
        ("vae", {"in_channels": 48}, "in_channels is 48"),
        ("vae", {"mid_block_add_attention": False}, "mid_block_add_attention is False"),
        ("text_encoder", {"zero_padding": True}, "zero_padding is True"),
        ("text_encoder", {"hidden_act": "quick_gelu"}, "hidden_act is 'quick_gelu'"),
        ("text_encoder", {"pad_token_id": 1}, "pad_token_id is 1"),
        ("image_projector", {"image_tokens": "global"}, "image_tokens is 'global'"),
        ("scheduler", {"prediction_type": "v_prediction"}, "predicts 'v_prediction'"),
        ("scheduler", {"trained_betas": [0.1] * 1000}, "noise schedule is not the paper's"),
        ("scheduler", {"trained_betas": [0.1] * 10}, "noise schedule is not the paper's"),
        ("scheduler", {"trained_betas": None, "_class_name": "DDIMScheduler"}, "noise schedule is not the paper's"),
    ],
)
def test_what_the_official_format_cannot_say(folder: Path, part: str, entries: dict[str, Any], reason: str):
    if not (folder / part).is_dir():
        pytest.skip("text to video has no such part")
    name = "scheduler_config.json" if part == "scheduler" else "config.json"
    change(folder / part / name, **entries)
    with pytest.raises(ValueError, match=reason):
        read_folder_configs(folder, scale_length=None)


@pytest.mark.parametrize(
    "scheduler",
    [
        {"trained_betas": None},
        {"trained_betas": None, "_class_name": "DDIMScheduler", "beta_schedule": "scaled_linear"}
        | {"beta_start": 0.00085, "beta_end": 0.012},
    ],
)
def test_the_papers_schedule_in_other_words(folder: Path, scheduler: dict[str, Any]):
    is_official = "_class_name" not in scheduler
    change(folder / "model_index.json", signal_scale=0.7 if is_official else None)
    change(folder / "scheduler" / "scheduler_config.json", **scheduler)
    model, _ = read_folder_configs(folder, scale_length=None)
    assert model.signal_scale_length == (1000 if is_official else None)


def test_a_scale_that_the_scheduler_does_not_know(folder: Path):
    change(folder / "model_index.json", signal_scale=0.3)
    with pytest.raises(ValueError, match="noise schedule is not the paper's"):
        read_folder_configs(folder, scale_length=None)


def test_what_the_official_code_must_be_told(folder: Path):
    change(folder / "vae" / "config.json", scaling_factor=0.5)
    change(folder / "unet" / "config.json", temporal_layers_on_images=False)
    _, notes = read_folder_configs(folder, scale_length=None)
    assert notes[0] == "set scale_factor: 0.5 in its official config"
    assert "single frames" in notes[1]


def test_an_autoencoder_with_an_older_and_shorter_config(folder: Path):
    path = folder / "vae" / "config.json"
    config = json.loads(path.read_text())
    for name in ("scaling_factor", "shift_factor", "act_fn", "use_quant_conv"):
        del config[name]
    path.write_text(json.dumps(config))
    model, notes = read_folder_configs(folder, scale_length=None)
    assert model.vae["scaling_factor"] == 0.18215
    assert notes == []


def test_other_pipelines_and_broken_files(folder: Path):
    index = folder / "model_index.json"
    change(index, _class_name="StableDiffusionPipeline")
    with pytest.raises(ValueError, match="its pipeline is 'StableDiffusionPipeline'; expected TextToVideoPipeline"):
        read_folder_configs(folder, scale_length=None)
    for text, reason in (("{", "not readable as JSON"), ("[1]", "expected a JSON object")):
        index.write_text(text)
        with pytest.raises(ValueError, match=reason):
            read_folder_configs(folder, scale_length=None)
    index.unlink()
    with pytest.raises(ValueError, match=r"model_index\.json is missing"):
        read_folder_configs(folder, scale_length=None)
