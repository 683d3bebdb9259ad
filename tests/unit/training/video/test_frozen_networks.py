"""Frozen networks are loaded when they are needed; until then, a pipeline holds them on the meta device."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.tiny_models import save_tiny_pipeline
from videocrafter.pipelines.loading import load_pipeline
from videocrafter.pipelines.model_folder import ModelFolderError
from videocrafter.training.video import frozen_networks
from videocrafter.training.video.frozen_networks import FrozenNetworks, frozen_folders, read_tokenizer, settle_weights
from videocrafter.training.video.starting_pipeline import load_start
from videocrafter.training.video.task_config import ClipDiffusionTaskConfig

CPU = torch.device("cpu")
PARTS = ("vae", "text_encoder", "image_encoder")


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_pipeline(tmp_path_factory.mktemp("frozen") / "i2v", image=True)


def frozen(start: Path, device: str = "cpu", **changes: object) -> FrozenNetworks:
    sources = frozen_folders(start, "text_to_video", None)
    return FrozenNetworks(sources, torch.device(device), "fp32", **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("device", "emulated", "best"), [("cuda", True, "bf16"), ("cpu", False, "bf16"), ("cpu", True, "fp32")]
)
def test_weights_are_kept_in_bf16_but_on_cpus_that_can_only_emulate_it(
    device: str, emulated: bool, best: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frozen_networks, "emulates_bf16", lambda: emulated)
    settled = settle_weights(ClipDiffusionTaskConfig(), torch.device(device))
    assert (settled.frozen_weights, settled.base_weights) == (best, best)
    said = ClipDiffusionTaskConfig(frozen_weights="fp32", base_weights="bf16")
    assert settle_weights(said, torch.device(device)) == said


def test_a_pipeline_with_networks_without_weights_knows_its_sizes_and_is_saved_alike(
    start: Path, tmp_path: Path
) -> None:
    networks = frozen(start)
    whole, light = load_start(start), load_start(start, networks.networks)
    assert light.size_multiple == whole.size_multiple
    assert all(parameter.is_meta for name in PARTS for parameter in getattr(light, name).parameters())
    assert not any(parameter.is_meta for parameter in light.unet.parameters())
    for pipeline, name in ((whole, "whole"), (light, "light")):
        pipeline.save_config(tmp_path / name)
    assert (tmp_path / "whole/model_index.json").read_text() == (tmp_path / "light/model_index.json").read_text()


def test_the_networks_that_are_brought_are_those_of_the_pipeline(start: Path) -> None:
    networks = frozen(start)
    pipeline = load_start(start, networks.networks)
    networks.belong_to(pipeline)
    brought = networks.bring()
    assert brought is networks.bring()
    whole = load_pipeline(start)
    for name in PARTS:
        assert getattr(pipeline, name) is brought[name]
        expected = brought[name].state_dict()
        for key, value in getattr(whole, name).state_dict().items():
            assert torch.equal(expected[key], value), key
        assert not any(parameter.requires_grad for parameter in brought[name].parameters())
        assert not brought[name].training
    tokenizer = read_tokenizer(start / "tokenizer", type(whole.tokenizer).__name__)
    assert tokenizer("a rocket")["input_ids"] == whole.tokenizer("a rocket")["input_ids"]


def test_reading_them_draws_nothing(start: Path) -> None:
    networks = frozen(start)
    before = torch.get_rng_state()
    networks.bring()
    assert torch.equal(torch.get_rng_state(), before)


def test_they_run_in_the_precision_that_was_asked_for(start: Path) -> None:
    sources = frozen_folders(start, "text_to_video", None)
    brought = FrozenNetworks(sources, CPU, "bf16").bring()
    assert {parameter.dtype for name in PARTS for parameter in brought[name].parameters()} == {torch.bfloat16}


class _Moves:
    """Records the devices that networks are moved to, on a machine without an accelerator."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.seen: list[str] = []
        monkeypatch.setattr(torch.nn.Module, "to", self._to)

    def _to(self, *arguments: object, **_: object) -> None:
        self.seen += [str(argument) for argument in arguments if isinstance(argument, torch.device | str)]


def test_they_leave_the_device_when_asked_and_come_back_when_needed(
    start: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frozen_networks, "_read", lambda *_: torch.nn.Linear(1, 1))
    networks = frozen(start, "xpu", stay=False)
    moves = _Moves(monkeypatch)
    networks.park()
    assert moves.seen == []
    with networks.on_device():
        networks.bring()
        assert moves.seen == ["xpu"] * 3
    assert moves.seen[3:] == ["cpu"] * 3
    networks.bring()
    with networks.on_device():
        pass
    assert moves.seen[6:] == ["xpu"] * 3, "networks that were there before stay"


def test_without_a_cache_they_stay(start: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frozen_networks, "_read", lambda *_: torch.nn.Linear(1, 1))
    networks = frozen(start, "xpu")
    moves = _Moves(monkeypatch)
    networks.bring()
    networks.park()
    assert moves.seen == ["xpu"] * 3


def test_damage_is_one_line(tmp_path: Path) -> None:
    start = save_tiny_pipeline(tmp_path / "i2v", image=True)
    networks = frozen(start)
    (start / "vae" / "diffusion_pytorch_model.safetensors").write_bytes(b"nonsense")
    with pytest.raises(ValueError, match=r"the vae in .* cannot be loaded") as caught:
        networks.bring()
    assert "\n" not in str(caught.value)
    (start / "text_encoder" / "config.json").write_text("{")
    with pytest.raises(ValueError, match=r"the text_encoder in .* cannot be read"):
        frozen(start)


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    start = save_tiny_pipeline(tmp_path / "i2v", image=True)
    networks = frozen(start)
    text, image = (start / part / "model.safetensors" for part in ("text_encoder", "image_encoder"))
    text.write_bytes(image.read_bytes())
    with pytest.raises((ModelFolderError, ValueError), match="text_encoder"):
        networks.bring()


def test_the_parts_are_found_without_loading_a_pipeline(start: Path, tmp_path: Path) -> None:
    text = save_tiny_pipeline(tmp_path / "t2v", image=False)
    assert set(frozen_folders(start, "text_to_video", None)) == {*PARTS, "tokenizer"}
    assert set(frozen_folders(text, "image_mapping", None)) == {"vae", "text_encoder", "tokenizer"}
    assert set(frozen_folders(text, "text_to_video", start)) == {"vae", "text_encoder", "tokenizer"}
    for tower in (start, start / "image_encoder"):
        assert frozen_folders(text, "image_mapping", tower)["image_encoder"] == start / "image_encoder"
    assert frozen_folders(start, "image_to_video", text)["image_encoder"] == start / "image_encoder"
    with pytest.raises(ValueError, match="which holds no image tower"):
        frozen_folders(text, "image_to_video", text)
    with pytest.raises(ModelFolderError, match="is not a pipeline folder"):
        frozen_folders(tmp_path, "text_to_video", None)
