"""Settings of LoRAs as peft and diffusers store them."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from peft import LoraConfig
from peft.utils.other import get_pattern_key

from videocrafter.checkpoints.lora.adapter_settings import PEFT_CONFIG, configured_alpha, read_peft_config

LAYERS = st.sampled_from(["down.0.to_q", "down.1.to_q", "up.0.to_v", "mid.to_out"])
PATTERNS = st.dictionaries(st.sampled_from(["to_q", "down.0.to_q", r"down\..*", "^up.0.to_v"]), st.integers(1, 9))


@given(layer=LAYERS, rank=st.integers(1, 8), alpha=st.integers(1, 9), pattern=PATTERNS, stabilised=st.booleans())
def test_the_scale_is_that_of_peft(layer: str, rank: int, alpha: int, pattern: dict[str, int], stabilised: bool):
    settings = {"lora_alpha": alpha, "alpha_pattern": pattern, "use_rslora": stabilised}
    wanted = pattern.get(get_pattern_key(list(pattern), layer), alpha) / (rank**0.5 if stabilised else rank)
    assert configured_alpha(layer, rank, settings) / rank == pytest.approx(wanted)
    prefixed = {f"unet.{key}": value for key, value in settings.items()}
    assert configured_alpha(f"unet.{layer}", rank, prefixed) / rank == pytest.approx(wanted)
    assert configured_alpha(layer, rank, {}) == rank


@pytest.mark.parametrize("value", [{"a": 1}, "x", None, [], float("nan"), 10**400])
def test_alpha_must_be_a_number(value: Any):
    with pytest.raises(ValueError, match="settings of the LoRA are damaged: alpha of x"):
        configured_alpha("x", 2, {"lora_alpha": value})


def test_plain_settings_of_every_version_are_accepted(tmp_path: Path):
    weights = tmp_path / "adapter_model.safetensors"
    assert read_peft_config(weights) is None
    config = {**LoraConfig(r=2).to_dict(), "peft_type": "LORA", "added_later": None}
    (tmp_path / PEFT_CONFIG).write_text(json.dumps(config, default=list))
    assert read_peft_config(weights) is not None


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({"peft_type": "LOHA"}, "'LOHA', another kind of adapter"),
        ({"trainable_token_indices": [1, 2]}, "also replaces tokens"),
        ({"layer_replication": [[0, 4]]}, "duplicates layers"),
        ({"init_lora_weights": "pissa_niter_4"}, "fits only a model changed by"),
    ],
)
def test_other_adapters_are_refused(tmp_path: Path, config: dict[str, Any], reason: str):
    (tmp_path / PEFT_CONFIG).write_text(json.dumps(config))
    with pytest.raises(ValueError, match=reason):
        read_peft_config(tmp_path / "adapter_model.safetensors")


@pytest.mark.parametrize("text", ["", "[]", '{"a":' * 9999, "{"])
def test_damaged_settings_are_named(tmp_path: Path, text: str):
    (tmp_path / PEFT_CONFIG).write_text(text)
    with pytest.raises(ValueError, match=r"adapter_config\.json is damaged"):
        read_peft_config(tmp_path / "adapter_model.safetensors")
