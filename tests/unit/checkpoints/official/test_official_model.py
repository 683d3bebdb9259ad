"""Official models read from configs and from shapes."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from tests.official_checkpoints import official_shapes
from tests.unit.checkpoints.official.official_shapes import mini_config
from videocrafter.checkpoints.official.official_model import (
    OfficialModel,
    official_model_from_config,
    official_model_from_shapes,
)
from videocrafter.diffusion.schedule import signal_scale


def changed(tree: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """Return a config with the value at a dotted path replaced, or removed if it is None."""
    name, _, rest = path.partition(".")
    if rest:
        return {**tree, name: changed(tree[name], rest, value)}
    return {**{key: old for key, old in tree.items() if key != name}, **({} if value is None else {name: value})}


@pytest.fixture(scope="module")
def model() -> OfficialModel:
    return official_model_from_config(mini_config())


@pytest.fixture(scope="module")
def shapes(model: OfficialModel) -> dict[str, tuple[int, ...]]:
    return official_shapes(model)


def test_a_config_says_everything(model: OfficialModel):
    assert model.unet["attention_levels"] == (0, 1)
    assert (model.text_encoder["num_hidden_layers"], model.text_blocks) == (1, 2)
    assert (model.text_encoder["hidden_size"], model.text_encoder["num_attention_heads"]) == (64, 1)
    assert (model.text_encoder["vocab_size"], model.text_encoder["max_position_embeddings"]) == (40, 77)
    assert (model.vae["block_out_channels"], model.vae["scaling_factor"]) == ((32, 64), 0.18215)
    assert model.image_encoder is not None
    assert model.image_projector is not None
    assert (model.image_encoder["num_attention_heads"], model.image_encoder["image_size"]) == (2, 224)
    assert (model.image_projector["embedding_dim"], model.image_projector["output_dim"]) == (128, 64)
    assert (model.signal_scale, model.signal_scale_length) == (0.7, 1400)


def test_the_tree_may_be_whole_or_its_params_alone(model: OfficialModel):
    whole = {"target": "lvdm.models.ddpm3d.LatentVisualDiffusion", "params": mini_config()}
    assert official_model_from_config(whole) == model


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"use_scale": False}, (None, None)),
        ({"scale_b": None}, (0.3, 1400)),
        ({"fix_scale_bug": True}, (0.7, 1000)),
    ],
)
def test_signal_scales_of_a_config(changes: dict[str, Any], expected: tuple[float | None, int | None]):
    config = mini_config()
    for path, value in changes.items():
        config = changed(config, path, value)
    found = official_model_from_config(config)
    assert (found.signal_scale, found.signal_scale_length) == expected


def test_the_last_layer_may_be_asked_for(model: OfficialModel):
    found = official_model_from_config(changed(mini_config(), "cond_stage_config.params.layer", "last"))
    assert (found.text_encoder["num_hidden_layers"], found.text_blocks) == (2, 2)


def test_shapes_say_what_the_official_config_does_not(model: OfficialModel, shapes: dict[str, tuple[int, ...]]):
    config = changed(mini_config(), "cond_stage_config.params.arch", None)
    assert official_model_from_config(changed(config, "image_proj_stage_config", None), shapes) == model


def test_heads_are_no_part_of_any_shape_and_can_be_named(model: OfficialModel, shapes: dict[str, tuple[int, ...]]):
    heads = {"text_cfg": {"heads": 4}, "vision_cfg": {"head_width": 16}}
    config = changed(mini_config(), "cond_stage_config.params.arch", heads)
    found = official_model_from_config(changed(config, "image_proj_stage_config.params", {"dim_head": 32}), shapes)
    assert found == replace(
        model,
        text_encoder={**model.text_encoder, "num_attention_heads": 4},
        image_encoder={**(model.image_encoder or {}), "num_attention_heads": 8},
        image_projector={**(model.image_projector or {}), "dim_head": 32, "heads": 4},
    )


def test_without_sizes_the_towers_are_the_released_ones():
    config = changed(mini_config(), "cond_stage_config.params.arch", None)
    config = changed(config, "unet_config.params.context_dim", 1024)
    config = changed(config, "image_proj_stage_config", None)
    found = official_model_from_config(config)
    assert found.text_encoder["num_hidden_layers"] == 23
    assert found.image_encoder is not None
    assert found.image_projector is not None
    assert found.image_encoder["num_hidden_layers"] == 32
    assert found.image_projector["heads"] == 12


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("unet_config", None, "the config lacks unet_config"),
        ("cond_stage_config", {}, "the config lacks cond_stage_config"),
        ("first_stage_config", 3, "first_stage_config is 3; expected a mapping"),
        ("cond_stage_config.target", "x.FrozenCLIPEmbedder", "'x.FrozenCLIPEmbedder'; expected FrozenOpenCLIP"),
        ("cond_stage_config.params.layer", "pooled", "layer is 'pooled'; expected penultimate or last"),
        ("cond_stage_config.params.arch", "ViT-L-14", "arch is 'ViT-L-14'; expected ViT-H-14 or a mapping"),
        ("cond_stage_config.params.arch", 5, "arch is 5; expected a name or a mapping"),
        ("cond_stage_config.params.arch.text_cfg.depth", 5, "unknown sizes depth in arch.text_cfg; expected some of"),
        ("cond_stage_config.params.arch.text_cfg.heads", 0, "arch.text_cfg.heads is 0; expected a positive integer"),
        (
            "cond_stage_config.params.arch.text_cfg.mlp_ratio",
            "4",
            "arch.text_cfg.mlp_ratio is '4'; expected a finite number",
        ),
        (
            "cond_stage_config.params.arch.vision_cfg.mlp_ratio",
            float("inf"),
            "mlp_ratio is inf; expected a finite number",
        ),
        ("cond_stage_config.params.arch.text_cfg.mlp_ratio", -4.0, "mlp_ratio is -4.0; expected a number above 0"),
        ("unet_config.params.dropout", "none", "unet_config.params.dropout is 'none'; expected a finite number"),
        (
            "cond_stage_config.params.arch.text_cfg.width",
            128,
            "denoiser's context has width 64, but the text encoder has width 128",
        ),
        ("linear_start", None, "linear_start is 0.0001; only 0.00085, as in every"),
        ("parameterization", "v", "parameterization is 'v'; only 'eps'"),
        ("rescale_betas_zero_snr", True, "rescale_betas_zero_snr is True"),
        ("conditioning_key", "hybrid", "conditioning_key is 'hybrid'"),
        ("scale_by_std", True, "scale_by_std is True"),
        ("mid_step", 200, "mid_step is 200"),
        ("scale_b", "0.7", "scale_b is '0.7'; expected a finite number"),
        ("scale_b", 1.5, "signal scale is 1.5; expected a value above 0"),
        ("finegrained", False, "finegrained is off"),
        ("cond_img_config", None, "are needed together"),
        ("unet_config.params.use_image_attention", False, "are needed together"),
        ("unet_config.params.in_channels", 8, "denoiser's input has width 8, but a latent has width 4"),
        ("unet_config.params.model_channels", "320", "unet_config.params.model_channels is '320'"),
        ("image_proj_stage_config.params.width", 5, "unknown options width in image_proj_stage_config"),
        ("image_proj_stage_config.params.heads", "5", "image_proj_stage_config.params.heads is '5'"),
        ("image_proj_stage_config.params.output_dim", 5, "image projector's output has width 5; they must be equal"),
    ],
)
def test_what_a_config_cannot_mean_here_is_named(path: str, value: Any, message: str):
    with pytest.raises(ValueError, match=message) as caught:
        official_model_from_config(changed(mini_config(), path, value))
    assert "\n" not in str(caught.value)


def test_shapes_and_the_signal_scale_give_the_model_back(model: OfficialModel, shapes: dict[str, tuple[int, ...]]):
    assert official_model_from_shapes(shapes, signal_scale(0.7, 1400).float()) == model


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
@pytest.mark.parametrize(("b", "length"), [(0.7, 1000), (0.7, 1400), (0.3, 1000), (1.0, 1400), (0.45, 1000)])
def test_the_signal_scale_is_read_from_its_buffer(
    shapes: dict[str, tuple[int, ...]], b: float, length: int, dtype: torch.dtype
):
    found = official_model_from_shapes(shapes, signal_scale(b, length).to(dtype))
    assert (found.signal_scale, found.signal_scale_length) == (b, length)


def test_without_the_buffer_there_is_no_signal_scale(shapes: dict[str, tuple[int, ...]]):
    found = official_model_from_shapes({key: shape for key, shape in shapes.items() if key != "scale_arr"})
    assert (found.signal_scale, found.signal_scale_length) == (None, None)


@pytest.mark.parametrize(
    ("scale_arr", "message"),
    [
        (None, "the checkpoint has scale_arr; its values are needed"),
        (torch.full((1200,), 0.7), r"scale_arr has shape \(1200,\); expected 1000 or 1400 entries"),
        (torch.ones(1000, 1), r"scale_arr has shape \(1000, 1\)"),
        (torch.full((1000,), 0.7), "scale_arr runs from 0.7 to 0.7 and is not valid"),
        (torch.linspace(1, 0.3, 1000), "scale_arr runs from 1 to 0.3 and is not valid"),
        (-signal_scale(0.7), "scale_arr runs from -1 to -0.7"),
        (signal_scale(0.7) * torch.nan, "scale_arr runs from nan to nan"),
    ],
)
def test_a_signal_scale_of_another_kind_is_refused(
    shapes: dict[str, tuple[int, ...]], scale_arr: torch.Tensor | None, message: str
):
    with pytest.raises(ValueError, match=message):
        official_model_from_shapes(shapes, scale_arr)


@pytest.mark.parametrize(
    "module", ["embedder.", "image_proj_model.", "first_stage_model.", "cond_stage_model.", "model."]
)
def test_a_checkpoint_without_one_of_its_networks_is_refused(shapes: dict[str, tuple[int, ...]], module: str):
    rest = {key: shape for key, shape in shapes.items() if not key.startswith(module)}
    with pytest.raises(ValueError, match=f"lacks '{module}"):
        official_model_from_shapes(rest, signal_scale(0.7))
