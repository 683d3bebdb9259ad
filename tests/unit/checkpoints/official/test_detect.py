"""Detect the model in a checkpoint and check every key."""

import gzip
import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.official_checkpoints import small_checkpoint, small_params
from videocrafter.checkpoints.official.checkpoint_keys import rules_by_part
from videocrafter.checkpoints.official.detect import detect_model, list_keys
from videocrafter.checkpoints.official.meta_networks import build_networks, check_fits
from videocrafter.diffusion.schedule import alphas_cumprod, linear_betas, signal_scale
from videocrafter.presets import PRESETS

KEYS = Path(__file__).parents[3] / "golden" / "data" / "official_keys.json.gz"
OFFICIAL = json.loads(gzip.decompress(KEYS.read_bytes()))
NAMES = {
    "t2v_512_v1": "t2v-512",
    "t2v_512_v1_early": "t2v-512-early",
    "t2v_1024_v1": "t2v-1024",
    "t2v_512_v2": "vc2-t2v-512",
    "i2v_512_v1": "i2v-512",
}


def full_size(variant: str, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    """A released checkpoint on the meta device; only the noise schedule has values."""
    shapes = {key: shape for key, (shape, _) in OFFICIAL[variant].items()}
    tensors = {key: torch.empty(shape, dtype=dtype, device="meta") for key, shape in shapes.items()}
    tensors["alphas_cumprod"] = alphas_cumprod(linear_betas()).to(dtype)
    if "scale_arr" in shapes:
        b = 0.3 if "1024" in variant else 0.7
        tensors["scale_arr"] = signal_scale(b, shapes["scale_arr"][0]).to(dtype)
    return tensors


def refusal(tensors: dict[str, Tensor], config: Any = None) -> str:
    with pytest.raises(ValueError) as caught:
        detect_model(tensors, config)
    assert "\n" not in str(caught.value)
    return str(caught.value)


DAMAGEABLE = {
    key: value if "." not in key else value.to("meta") for key, value in small_checkpoint(image=True).items()
}
"""Only the noise schedule has values."""


@pytest.fixture(scope="module")
def t2v() -> dict[str, Tensor]:
    return small_checkpoint()


# Released models


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("variant", OFFICIAL)
def test_released_checkpoints_are_recognised(variant: str, dtype: torch.dtype):
    found = detect_model(full_size(variant, dtype))
    assert found.preset == NAMES[variant]
    preset = PRESETS[found.preset]
    assert found.description == f"{preset.description} ({preset.name})"
    assert found.model.signal_scale == preset.signal_scale
    assert found.model.unet["fps_condition"] == preset.has_fps_condition
    assert (found.model.image_encoder is not None) == (preset.task == "i2v")


def test_a_network_trained_here_from_stable_diffusion_is_the_first_stage():
    tensors = full_size("t2v_512_v2")
    del tensors["scale_arr"]
    assert detect_model(tensors).preset == "t2v-256"


def test_a_released_network_with_another_scale_is_none_of_the_releases():
    tensors = full_size("t2v_512_v2") | {"scale_arr": signal_scale(0.5).float()}
    found = detect_model(tensors)
    assert found.preset is None
    assert found.description.startswith("an unreleased model in the VideoCrafter1 format (text to video, width 320, ")
    assert "4 levels, signal scale 0.5" in found.description


# Other sizes


@pytest.mark.parametrize("image", [False, True])
def test_another_size_is_described_and_its_config_gives_the_same_model(image: bool):
    tensors = small_checkpoint(image=image)
    found = detect_model(tensors)
    assert found.preset is None
    assert "width 32, 1 level" in found.description
    assert ("image to video" in found.description) == image
    assert detect_model(tensors, {"params": small_params(image=image)}) == found


def test_the_unused_keys_have_reasons(t2v: dict[str, Tensor]):
    unused = detect_model(t2v).unused
    assert {"betas", "scale_arr", "cond_stage_model.model.logit_scale"} <= unused.keys()
    assert all(unused.values())


def test_averaged_weights_are_accounted_for(t2v: dict[str, Tensor]):
    averaged = {"model_ema.diffusion_modelout2weight": torch.ones(1), "model_ema.decay": torch.ones(())}
    unused = detect_model({**t2v, **averaged}).unused
    assert averaged.keys() <= unused.keys()


# Rejected checkpoints


@settings(max_examples=40, deadline=None)
@given(
    changes=st.lists(
        st.tuples(
            st.integers(0, 10**6),
            st.sampled_from(["gone", "fewer axes", "one more axis", "no axes", "empty", "longer"]),
        ),
        min_size=1,
        max_size=3,
    )
)
def test_whatever_is_wrong_with_shapes_is_one_line(changes: list[tuple[int, str]]):
    tensors = dict(DAMAGEABLE)
    for number, change in changes:
        key = list(tensors)[number % len(tensors)]
        shape = list(tensors.pop(key).shape)
        new = {"fewer axes": shape[:-1], "one more axis": [*shape, 2], "no axes": [], "empty": [0, *shape[1:]]}
        if change != "gone":
            tensors[key] = torch.empty(new.get(change, [*shape[:-1], 10**6]), device="meta")
    try:
        found = detect_model(tensors)
        networks = build_networks(found.model)
        for part, part_rules in rules_by_part(found.model).items():
            own = {name: value for rule in part_rules for name, value in rule.to_own(tensors).items()}
            check_fits(
                part, networks[part], {name: tuple(value.shape) for name, value in own.items()}, "the checkpoint"
            )
    except ValueError as error:
        assert "\n" not in str(error)  # noqa: PT017  (that nothing else is raised is the test)
    else:
        held = {rule.official for part_rules in rules_by_part(found.model).values() for rule in part_rules}
        assert tensors.keys() == held | found.unused.keys()


def test_other_models_are_named():
    assert "seems to be a VAE alone" in refusal({"first_stage_model.quant_conv.weight": torch.ones(1)})


@pytest.mark.parametrize(
    ("prefix", "name"),
    [("first_stage_model.", "its autoencoder"), ("cond_stage_model.", "its text encoder")],
)
def test_missing_parts_are_named(t2v: dict[str, Tensor], prefix: str, name: str):
    assert name in refusal({key: value for key, value in t2v.items() if not key.startswith(prefix)})


def test_an_image_branch_without_its_encoder():
    tensors = small_checkpoint(image=True)
    rest = {key: value for key, value in tensors.items() if not key.startswith(("embedder.", "image_proj_model."))}
    message = refusal(rest)
    assert "its image encoder (embedder.*) and its image projector (image_proj_model.*)" in message


def test_missing_and_surplus_keys_are_listed_by_module(t2v: dict[str, Tensor]):
    gone = [key for key in t2v if "temopral_conv" in key][:14] + ["first_stage_model.encoder.conv_in.bias"]
    tensors = {key: value for key, value in t2v.items() if key not in gone}
    tensors |= {"adapter.body.0.weight": torch.ones(1), "model.diffusion_model.extra": torch.ones(1)}
    message = refusal(tensors)
    assert "lacks 15 keys (autoencoder 1: first_stage_model.encoder.conv_in.bias; denoiser 14: model." in message
    assert message.count("temopral_conv") == 9, "ten keys are shown in all"
    assert (
        "2 keys that belong to no network (adapter 1: adapter.body.0.weight; denoiser 1: model.diffusion_model.extra)"
        in (message)
    )


def test_a_checkpoint_without_its_schedule_needs_a_config(t2v: dict[str, Tensor]):
    pruned = {key: value for key, value in t2v.items() if "." in key}
    assert "--config" in refusal(pruned)
    model = detect_model(pruned, {"params": small_params()}).model
    assert model.signal_scale == 0.7


@pytest.mark.parametrize(("given", "promised"), [(0.7, None), (0.7, 0.3)])
def test_a_config_of_another_checkpoint_is_noticed(given: float, promised: float | None):
    message = refusal(small_checkpoint(scale=given), {"params": small_params(scale=promised)})
    assert "its scale_arr ends at 0.7, but the config specifies" in message


def test_an_empty_signal_scale_is_noticed_beside_a_config(t2v: dict[str, Tensor]):
    message = refusal({**t2v, "scale_arr": torch.empty(0)}, {"params": small_params()})
    assert "its scale_arr is empty, but the config specifies a signal scale of 0.7" in message


def test_another_noise_schedule_is_refused(t2v: dict[str, Tensor]):
    zero_terminal = t2v["alphas_cumprod"] - t2v["alphas_cumprod"][-1]
    assert "a noise schedule other than VideoCrafter's" in refusal({**t2v, "alphas_cumprod": zero_terminal})
    assert "a noise schedule other than VideoCrafter's" in refusal({**t2v, "alphas_cumprod": torch.ones(3)})
    assert "a noise schedule other than VideoCrafter's" in refusal({**t2v, "alphas_cumprod": torch.ones(())})


def test_a_list_of_keys_is_short_and_exact():
    assert list_keys("lacks", []) == ""
    assert list_keys("lacks", ["betas"]) == "lacks 1 key (noise schedule 1: betas)"
    many = list_keys("lacks", [f"model.diffusion_model.{index:03}" for index in range(100)])
    assert len(re.findall(r"model\.diffusion_model", many)) == 10
    assert many.startswith("lacks 100 keys (denoiser 100: ")
    assert many.endswith(", ...)")
