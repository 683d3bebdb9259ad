import json
import shutil
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL
from transformers import CLIPTextModel

from tests.tiny_parts import AUTOENCODER, NETWORK, TOWERS, build, video_task
from videocrafter import presets
from videocrafter.models.unet import VideoUNet
from videocrafter.training.config import RecipeConfig, SettingsError
from videocrafter.training.recipes.by_name import RECIPES
from videocrafter.training.video import starting_weights
from videocrafter.training.video.frozen_networks import FrozenNetworks
from videocrafter.training.video.meta_networks import network_in
from videocrafter.training.video.planned_start import named_start
from videocrafter.training.video.starting_weights import (
    FolderNetworks,
    check_fit,
    named_folder,
    part_folder,
    start_folder,
    starting_network,
)

CONFIG = asdict(NETWORK)


def test_a_part_comes_from_the_start_before_the_folder(parts: Path, t2v_start: Path) -> None:
    assert part_folder(t2v_start, str(parts), "vae") == t2v_start / "vae"
    assert part_folder(t2v_start, str(parts), "image_encoder") == parts / "image_encoder"
    assert part_folder(None, str(parts), "vae") == parts / "vae"


def test_a_part_may_come_from_a_model_of_the_package(parts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(presets, "_ASSETS", parts.parent)
    named = replace(presets.PRESETS["tiny-i2v"], asset=parts.name)
    monkeypatch.setattr(starting_weights, "PRESETS", {"tiny-i2v": named})
    assert part_folder(None, "tiny-i2v", "tokenizer") == parts / "tokenizer"


def as_run(folder: Path, result: Path | None) -> Path:
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "config.json").write_text("{}", encoding="utf-8")
    if result is not None:
        shutil.copytree(result, folder / "final")
    return folder


def test_miniature_training_starts_from_weights_saved_under_a_variant(
    parts: Path, t2v_start: Path, tmp_path: Path
) -> None:
    for folder, name in ((parts, "parts"), (t2v_start, "start")):
        shutil.copytree(folder, tmp_path / name)
        for weights in (tmp_path / name).glob("*/*.safetensors"):
            weights.rename(weights.with_name(f"{weights.stem}.fp16.safetensors"))
    plain = (build(AUTOENCODER, parts), build(TOWERS, parts), video_task(parts, t2v_start))
    variant = (
        build(AUTOENCODER, tmp_path / "parts"),
        build(TOWERS, tmp_path / "parts"),
        video_task(tmp_path / "parts", tmp_path / "start"),
    )
    for one, other in zip(plain, variant, strict=True):
        for name in one.modules().keys() - {"heads"}:
            expected = one.modules()[name].state_dict()
            assert all(torch.equal(expected[key], value) for key, value in other.modules()[name].state_dict().items())


def from_start(folder: Path) -> RecipeConfig:
    return replace(RECIPES["smoke"](), init=str(folder))


def test_a_training_run_stands_for_its_result(parts: Path, t2v_start: Path, tmp_path: Path, caplog) -> None:
    run, unfinished = as_run(tmp_path / "run", t2v_start), as_run(tmp_path / "unfinished", None)
    caplog.set_level("INFO", "videocrafter")
    assert start_folder(from_start(run)) == run / "final"
    assert "starting from its result" in caplog.text
    assert part_folder(None, str(run), "vae") == run / "final/vae"
    assert named_start(str(run)).networks.keys() >= {"unet", "vae"}
    assert named_folder("tiny-t2v") == presets.PRESETS["tiny-t2v"].folder
    for read in (start_folder, lambda recipe: named_start(recipe.init)):
        with pytest.raises(ValueError, match=r"init is .*unfinished.* is not finished"):
            read(from_start(unfinished))


@pytest.mark.parametrize("value", [10**30, {"a": []}, "\u0001"])
def test_a_hostile_config_is_one_line_in_every_kind_of_training(
    parts: Path, t2v_start: Path, tmp_path: Path, value: object
) -> None:
    start = shutil.copytree(t2v_start, tmp_path / "start")
    config = start / "text_encoder/config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "layer_norm_eps": value}), encoding="utf-8")
    for read in (
        lambda: video_task(parts, start),
        lambda: FrozenNetworks({"text_encoder": config.parent}, torch.device("cpu"), "fp32").bring(),
        lambda: network_in("text_encoder", config.parent),
    ):
        with pytest.raises(ValueError, match=r"text_encoder") as error:
            read()
        assert "\n" not in str(error.value)


def test_a_name_that_stands_for_several_models_lists_them() -> None:
    with pytest.raises(SettingsError, match=r"init is 'tiny', .* name one of tiny-t2v, tiny-t2v-fast, tiny-i2v"):
        start_folder(from_start(Path("tiny")))


def test_a_start_that_is_no_pipeline_is_named_with_what_it_is(t2v_start: Path, tmp_path: Path) -> None:
    shutil.copytree(t2v_start, tmp_path / "models/small")
    (tmp_path / "lora").mkdir()
    (tmp_path / "lora/adapter_config.json").write_text("{}", encoding="utf-8")
    for folder, hint in (("models", "pass one of them, such as .*small"), ("lora", "it holds a LoRA")):
        with pytest.raises(SettingsError, match=hint):
            start_folder(from_start(tmp_path / folder))


@pytest.mark.parametrize(("name", "option"), [("vae", "autoencoder"), ("text_encoder", "towers")])
def test_a_missing_part_says_how_to_name_one(tmp_path: Path, name: str, option: str) -> None:
    with pytest.raises(ValueError) as error:
        part_folder(tmp_path, str(tmp_path / "nowhere"), name)
    assert f"needs a trained {name}" in str(error.value)
    assert f"--set stages.*.task.{option}=FOLDER" in str(error.value)
    assert "nowhere" in str(error.value)


def test_a_damaged_part_is_named_before_it_is_loaded(parts: Path, tmp_path: Path) -> None:
    shutil.copytree(parts / "vae", tmp_path / "vae")
    (weights,) = (tmp_path / "vae").glob("*.safetensors")
    weights.write_bytes(weights.read_bytes()[:-3])
    with pytest.raises(ValueError) as error:
        part_folder(None, str(tmp_path), "vae")
    assert f"{weights} is damaged" in str(error.value)
    assert "--set stages.*.task.autoencoder=FOLDER" in str(error.value)


@pytest.mark.parametrize("image_branch", [False, True])
def test_without_a_start_the_network_is_new(parts: Path, image_branch: bool) -> None:
    for start in (None, parts):
        network = starting_network(FolderNetworks(start), CONFIG, image_branch=image_branch)
        assert network.config["image_cross_attention"] is image_branch
        assert network.config["model_channels"] == NETWORK.model_channels


def test_a_start_is_gone_on_from(t2v_start: Path) -> None:
    saved = VideoUNet.from_pretrained(t2v_start / "unet").state_dict()
    network = starting_network(FolderNetworks(t2v_start), CONFIG, image_branch=False).state_dict()
    assert list(network) == list(saved)
    assert all(torch.equal(network[name], saved[name]) for name in saved)


def test_an_image_branch_begins_with_the_mappings_of_the_text(t2v_start: Path) -> None:
    saved = VideoUNet.from_pretrained(t2v_start / "unet").state_dict()
    network = starting_network(FolderNetworks(t2v_start), CONFIG, image_branch=True)
    for name, weight in network.state_dict().items():
        if name in saved:
            assert torch.equal(weight, saved[name]), name
        else:
            assert torch.equal(weight, saved[name.replace("_image.weight", ".weight")]), name


def test_an_image_branch_that_is_there_is_kept(t2v_start: Path, tmp_path: Path) -> None:
    network = starting_network(FolderNetworks(t2v_start), CONFIG, image_branch=True)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(1)
    network.save_pretrained(tmp_path / "unet")
    again = starting_network(FolderNetworks(tmp_path), CONFIG, image_branch=True).state_dict()
    assert all(torch.equal(again[name], weight) for name, weight in network.state_dict().items())


def test_half_precision_weights_become_full(t2v_start: Path, tmp_path: Path) -> None:
    VideoUNet.from_pretrained(t2v_start / "unet").half().save_pretrained(tmp_path / "unet")
    for image_branch in (False, True):
        network = starting_network(FolderNetworks(tmp_path), CONFIG, image_branch=image_branch)
        assert {parameter.dtype for parameter in network.parameters()} == {torch.float32}


@pytest.mark.parametrize(
    "changed", [{"model_channels": 32}, {"place_condition": False}, {"temporal_convolution": True}]
)
def test_an_image_branch_for_another_network_is_refused(t2v_start: Path, changed: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"task\.network"):
        starting_network(FolderNetworks(t2v_start), {**CONFIG, **changed}, image_branch=True)


def test_what_does_not_fit_is_named_with_its_setting(parts: Path) -> None:
    vae = AutoencoderKL.from_pretrained(parts / "vae")
    text_encoder = CLIPTextModel.from_pretrained(parts / "text_encoder")
    check_fit(VideoUNet(**CONFIG), vae, text_encoder, 16, 32)
    for changed, height, said in (
        ({"in_channels": 16}, 16, "latents have 4 channels, but task.network.in_channels is 16"),
        ({"context_dim": 128}, 16, "text tower is 16 wide, but task.network.context_dim is 128; set it to 16"),
        ({}, 24, "task.world is 24 pixels high and 32 wide; both must be multiples of 16"),
    ):
        with pytest.raises(ValueError) as error:
            check_fit(VideoUNet(**{**CONFIG, **changed}), vae, text_encoder, height, 32)
        assert said in str(error.value)


@pytest.mark.skipif(not presets.SHIPPED_JUDGE.is_dir(), reason="the judge is not part of this checkout")
def test_the_shipped_judge_is_a_start_by_its_name(caplog):
    recipe = RECIPES["tiny-second-judge"]()
    with caplog.at_level("INFO"):
        assert start_folder(recipe) == named_folder("judge") == presets.SHIPPED_JUDGE
    assert "training run" not in caplog.text
    assert named_start("judge").described == "the shipped judge"
