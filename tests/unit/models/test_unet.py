"""VideoUNet's behaviour; tests/golden compares its output with the official implementation."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from videocrafter.models.unet import VideoUNet

BASE: dict[str, Any] = {
    "model_channels": 16,
    "channel_mult": (1, 2),
    "num_res_blocks": 1,
    "attention_levels": (1,),
    "head_dim": 8,
    "context_dim": 12,
    "norm_groups": 4,
    "temporal_length": 4,
    "initial_temporal_heads": 2,
}
MINIATURE = {"frame_text_condition": True, "place_condition": True, "scale_shift": True}
EVERYTHING = {
    **MINIATURE,
    "relative_position": True,
    "temporal_convolution": True,
    "image_cross_attention": True,
    "transformer_depth": 2,
}


def build(**options: Any) -> VideoUNet:
    """A network without zero-initialised layers, so that every part affects the output."""
    torch.manual_seed(0)
    model = VideoUNet(**{**BASE, **options})
    with torch.no_grad():
        for parameter in model.parameters():
            if not parameter.any():
                parameter.normal_(std=0.2)
    return model.eval()


def inputs(batch: int = 2, num_frames: int = 3, image: bool = False, size: tuple[int, int] = (4, 6)) -> list[Any]:
    generator = torch.Generator().manual_seed(1)
    return [
        torch.randn(batch, 4, num_frames, *size, generator=generator),
        torch.tensor([901, 17, 400][:batch]),
        torch.randn(batch, 5, 12, generator=generator),
        torch.tensor([8.0, 24.0, 11.5][:batch]),
        torch.randn(batch, 3, 12, generator=generator) if image else None,
    ]


def is_temporal(name: str) -> bool:
    return "temporal" in name or name.startswith("frame_text_embedding.")


@pytest.mark.parametrize("options", [{}, MINIATURE, EVERYTHING, {"initial_temporal_heads": 0}], ids=len)
@pytest.mark.parametrize(("num_frames", "size"), [(1, (2, 2)), (3, (4, 6)), (11, (2, 8))])
def test_the_prediction_has_the_shape_of_the_sample(
    options: dict[str, Any], num_frames: int, size: tuple[int, int]
) -> None:
    given = inputs(3, num_frames, image="image_cross_attention" in options, size=size)
    with torch.no_grad():
        out = build(**options)(*given)
    assert out.shape == given[0].shape
    assert torch.isfinite(out).all()


@pytest.mark.parametrize("options", [{}, EVERYTHING, {"attention_levels": (1,), "place_condition": True}], ids=len)
def test_branches_of_guidance_give_what_a_larger_batch_gives(options: dict[str, Any]) -> None:
    model = build(**options).double()
    sample, timestep, _, fps, _ = inputs(2)
    _, _, text, _, image = inputs(6, image="image_cross_attention" in options)
    text, image = text.double(), None if image is None else image.double()
    sample = sample.double()
    with torch.no_grad():
        expected = model(torch.cat([sample] * 3), timestep.repeat(3), text, fps.repeat(3), image)
        got = model(sample, timestep, text, fps, image)
    torch.testing.assert_close(got, expected, atol=1e-10, rtol=0)


def test_layers_before_the_first_cross_attention_run_once_for_all_branches() -> None:
    model = build(attention_levels=(0, 1))
    rows: dict[str, int] = {}
    for name, module in model.named_modules():
        if name.split(".")[-1] in ("conv_in", "conv2", "to_q", "linear_in", "conv_out"):
            module.register_forward_hook(lambda _, given, __, name=name: rows.update({name: len(given[0])}))
    sample, timestep, _, fps, _ = inputs(1)
    with torch.no_grad():
        model(sample, timestep, inputs(2)[2], fps)
    frames = sample.shape[2]
    layer = "down_stages.0.layers.0"
    shared = ("conv_in", f"{layer}.residual.conv2", f"{layer}.spatial.blocks.0.self_attention.to_q")
    assert {rows[name] for name in shared} == {frames}
    assert rows[f"{layer}.spatial.blocks.0.mlp.linear_in"] == rows["conv_out"] == 2 * frames


def test_texts_must_match_the_clips() -> None:
    sample, timestep, _, fps, _ = inputs(2)
    with pytest.raises(ValueError, match="3 texts for 2 clips"):
        build()(sample, timestep, inputs(3)[2], fps)


def test_a_fresh_network_predicts_zero_and_treats_frames_independently() -> None:
    model = VideoUNet(**BASE, temporal_convolution=True).eval()
    sample, timestep, text, fps, _ = inputs()
    with torch.no_grad():
        assert not model(sample, timestep, text, fps).any()
        model.conv_out.weight.normal_()
        clip = model(sample, timestep, text, fps)
        frames = [model(sample[:, :, [t]], timestep, text, fps) for t in range(sample.shape[2])]
    assert clip.std() > 0.1
    torch.testing.assert_close(clip, torch.cat(frames, dim=2), atol=1e-5, rtol=1e-4)


def gradients(model: VideoUNet, given: list[Any]) -> dict[str, Tensor | None]:
    model.zero_grad(set_to_none=True)
    model(*given).square().mean().backward()
    return {name: parameter.grad for name, parameter in model.named_parameters()}


def test_one_frame_runs_no_temporal_layer() -> None:
    model = build(**EVERYTHING)
    got = gradients(model, inputs(num_frames=1, image=True))
    assert {name for name, grad in got.items() if grad is None} == {name for name in got if is_temporal(name)}


def test_two_frames_train_every_parameter() -> None:
    got = gradients(build(**EVERYTHING), inputs(num_frames=2, image=True))
    assert [name for name, grad in got.items() if grad is None or not grad.any()] == []


def test_one_frame_runs_the_temporal_layers_of_an_official_model() -> None:
    model = build(relative_position=True, temporal_convolution=True, temporal_layers_on_images=True)
    got = gradients(model, inputs(num_frames=1))
    assert [name for name in got if is_temporal(name) and got[name] is None] == []


@pytest.mark.parametrize("options", [EVERYTHING, {"temporal_layers_on_images": True}], ids=["ours", "official"])
def test_without_temporal_layers_each_frame_is_predicted_alone(options: dict[str, Any]) -> None:
    model = build(**options)
    sample, timestep, text, fps, image = inputs(image="image_cross_attention" in options)
    with torch.no_grad():
        together = model(sample, timestep, text, fps, image)
        clip = model(sample, timestep, text, fps, image, temporal=False)
        frames = [model(sample[:, :, [t]], timestep, text, fps, image, temporal=False) for t in range(3)]
    torch.testing.assert_close(clip, torch.cat(frames, dim=2), atol=1e-5, rtol=1e-4)
    assert (clip - together).abs().max() > 1e-2


@pytest.mark.parametrize("num_frames", [1, 3])
def test_a_clip_does_not_depend_on_its_batch(num_frames: int) -> None:
    model = build(**EVERYTHING)
    given = inputs(3, num_frames, image=True)
    with torch.no_grad():
        together = model(*given)
        alone = torch.cat([model(*(part[[index]] for part in given)) for index in range(3)])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("timestep", [7, 7.0, torch.tensor(7), torch.tensor([7])], ids=repr)
def test_one_timestep_and_fps_serve_the_whole_batch(timestep: Tensor | float) -> None:
    model = build(frame_text_condition=True)
    sample, _, text, _, _ = inputs()
    with torch.no_grad():
        each = model(sample, torch.tensor([7, 7]), text, torch.tensor([8.0, 8.0]))
        assert torch.equal(model(sample, timestep, text, 8), each)


def test_timestep_and_fps_move_to_the_device_of_the_sample() -> None:
    sample, timestep, text, fps, image = inputs(image=True)
    model = build(**EVERYTHING).to("meta")
    assert model(sample.to("meta"), timestep, text.to("meta"), fps, image.to("meta")).device.type == "meta"


def test_frames_of_a_clip_see_each_other() -> None:
    model = build()
    sample, *rest = inputs()
    changed = sample.clone()
    changed[:, :, 2] += 1
    with torch.no_grad():
        difference = (model(sample, *rest) - model(changed, *rest)).abs().amax(dim=(1, 3, 4))
    assert (difference[:, 0] > 1e-3).all()


@pytest.mark.parametrize("place", range(1, 5), ids=["timestep", "text", "fps", "image"])
def test_every_condition_changes_the_prediction(place: int) -> None:
    model = build(image_cross_attention=True)
    given = inputs(image=True)
    changed = [value + 3 if index == place else value for index, value in enumerate(given)]
    with torch.no_grad():
        assert (model(*given) - model(*changed)).abs().max() > 1e-3


def test_a_network_without_fps_ignores_it() -> None:
    model = build(fps_condition=False)
    sample, timestep, text, fps, _ = inputs()
    with torch.no_grad():
        assert torch.equal(model(sample, timestep, text, fps), model(sample, timestep, text))


def test_the_image_scale_fades_the_image_out() -> None:
    model = build(image_cross_attention=True)
    *given, image = inputs(image=True)
    with torch.no_grad():
        without = model(*given)
        assert torch.equal(model(*given, image, image_scale=0.0), without)
        half, full = (model(*given, image, image_scale=scale) - without for scale in (0.5, 1.0))
    assert 1e-3 < half.std() < full.std()


@pytest.mark.parametrize(("num_frames", "is_used"), [(1, False), (3, True)])
def test_the_frame_text_condition_applies_to_clips_only(num_frames: int, is_used: bool) -> None:
    model = build(frame_text_condition=True)
    given = inputs(num_frames=num_frames)
    with torch.no_grad():
        before = model(*given)
        model.frame_text_embedding.out.bias.add_(1)
        assert torch.equal(before, model(*given)) is not is_used


def test_the_frame_text_condition_separates_identical_frames() -> None:
    sample, *rest = inputs()
    still = sample[:, :, :1].expand_as(sample)
    with torch.no_grad():
        plain, indexed = build()(still, *rest), build(frame_text_condition=True)(still, *rest)
    torch.testing.assert_close(plain[:, :, 0], plain[:, :, 2], atol=1e-5, rtol=1e-4)
    assert (indexed[:, :, 0] - indexed[:, :, 2]).abs().max() > 1e-2


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_gradient_checkpointing_changes_no_gradient(dropout: float) -> None:
    model = build(**EVERYTHING, dropout=dropout, temporal_dropout=dropout).train()
    given = inputs(image=True)
    torch.manual_seed(5)
    plain = gradients(model, given)
    model.enable_gradient_checkpointing()
    torch.manual_seed(5)
    checkpointed = gradients(model, given)
    assert model.is_gradient_checkpointing
    for name, grad in plain.items():
        torch.testing.assert_close(checkpointed[name], grad, msg=name)


def test_gradient_checkpointing_is_used() -> None:
    model = build()
    run: list[torch.nn.Module] = []
    model.enable_gradient_checkpointing(lambda layer, *args: run.append(layer) or layer(*args))
    model(*inputs())
    assert len(run) == 2 * 1 + 2 + 2 * 2
    with torch.no_grad():
        model(*inputs())
    assert len(run) == 8


@pytest.mark.parametrize("shard", ["50KB", "1GB"])
def test_saved_and_loaded_it_is_the_same_network(tmp_path: Path, shard: str) -> None:
    model = build(**EVERYTHING)
    model.save_pretrained(tmp_path, max_shard_size=shard)
    assert (len(list(tmp_path.glob("*.safetensors"))) > 1) == (shard == "50KB")
    loaded = VideoUNet.from_pretrained(tmp_path)
    assert not loaded.training
    given = inputs(image=True)
    with torch.no_grad():
        assert torch.equal(loaded(*given), model(*given))


def test_a_network_saved_before_an_option_existed_loads_with_its_default(tmp_path: Path) -> None:
    build().save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    del config["temporal_layers_on_images"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert VideoUNet.from_pretrained(tmp_path).config["temporal_layers_on_images"] is False


@pytest.mark.parametrize(("levels", "multiple"), [((1,), 1), ((1, 1, 2), 4)])
def test_size_multiple(levels: tuple[int, ...], multiple: int) -> None:
    assert build(channel_mult=levels, attention_levels=()).size_multiple == multiple


@pytest.mark.parametrize("size", [(3, 4), (4, 5)])
def test_a_size_that_does_not_halve_is_named(size: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match=rf"{size[0]} x {size[1]}.*multiples of 2"):
        build()(*inputs(size=size))


@pytest.mark.parametrize("options", [{}, {"fps_condition": False, "frame_text_condition": True}], ids=len)
def test_a_missing_fps_is_an_error(options: dict[str, Any]) -> None:
    sample, timestep, text, _, _ = inputs()
    with pytest.raises(ValueError, match="fps_B is missing"):
        build(**options)(sample, timestep, text)


def test_image_tokens_need_an_image_branch() -> None:
    with pytest.raises(ValueError, match="without an image branch"):
        build()(*inputs(image=True))


@pytest.mark.parametrize("wrong", [{"head_dim": 5}, {"norm_groups": 3}])
def test_a_width_that_does_not_divide_is_named(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="16 channels"):
        VideoUNet(**{**BASE, **wrong})
