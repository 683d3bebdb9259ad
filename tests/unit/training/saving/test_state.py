"""The saved training state, as found in the files of a run. Tests of whole runs cover exact resumption."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.tiny_clips import clip_recipe
from videocrafter.training.config import SettingsError
from videocrafter.training.run import train
from videocrafter.training.video.lora import LoraTraining


def test_frozen_weights_are_not_saved_again(tiny_t2v: Path, tmp_path: Path) -> None:
    recipe = clip_recipe(tiny_t2v, num_steps=1, task={"phase": "temporal_only"})
    train(recipe, tmp_path, device="cpu")
    checkpoint = tmp_path / "checkpoints/clips-step-00000001"
    state = torch.load(checkpoint / "training_state/state.pt", weights_only=True)
    saved = set(state["modules"]["unet"])
    learning = {name for name in saved if "temporal" in name or name.startswith(("fps_embedding", "frame_text"))}
    assert saved == learning
    assert set(state["ema"]["averages"]) == {f"unet.{name}" for name in learning}
    # The pipeline folder contains all weights, for inference.
    assert (checkpoint / "unet/diffusion_pytorch_model.safetensors").stat().st_size > 0
    assert (checkpoint / "training_state/data.json").exists()


def test_a_state_of_other_learning_weights_is_refused(tiny_t2v: Path, tmp_path: Path) -> None:
    train(clip_recipe(tiny_t2v, task={"phase": "temporal_only"}), tmp_path, device="cpu", stop_after_s=0.0)
    whole = clip_recipe(tiny_t2v)
    with pytest.raises(SettingsError, match=r"state\.pt, unet does not fit the stage's networks: \d+ tensors differ"):
        train(whole, tmp_path, device="cpu", accept_changes=True)


def test_a_lora_of_another_rank_is_refused(tiny_t2v: Path, tmp_path: Path) -> None:
    first, other = (clip_recipe(tiny_t2v, task={"lora": LoraTraining(rank=rank)}) for rank in (2, 3))
    train(first, tmp_path, device="cpu", stop_after_s=0.0)
    with pytest.raises(SettingsError, match=r"including .*lora_[AB].* \(saved \[.*2.*\], now \[.*3.*\]\)"):
        train(other, tmp_path, device="cpu", accept_changes=True)
