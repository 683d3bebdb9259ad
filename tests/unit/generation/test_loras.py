from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from tests.tiny_loras import as_kohya, merge, random_lora
from tests.tiny_models import tiny_pipeline
from tests.unit.cli.conftest import Run
from videocrafter.generation.loras import LoraChoice, add_loras, parse_lora_option
from videocrafter.media.image_file import read_image


@given(weight=st.floats(-10, 10).map(lambda value: round(value, 3)))
def test_a_weight_may_follow_the_path(tmp_path_factory: pytest.TempPathFactory, weight: float) -> None:
    path = tmp_path_factory.getbasetemp()
    assert parse_lora_option(f"{path}:{weight}") == LoraChoice(path, weight)
    assert parse_lora_option(str(parse_lora_option(f"{path}:{weight}"))) == LoraChoice(path, weight)


def test_a_path_may_hold_colons(tmp_path: Path) -> None:
    for name in ("a", "a:1", "a:b"):
        (tmp_path / name).touch()
    assert parse_lora_option(f"{tmp_path}/a") == LoraChoice(tmp_path / "a")
    assert parse_lora_option(f"{tmp_path}/a:1") == LoraChoice(tmp_path / "a:1")
    assert parse_lora_option(f"{tmp_path}/a:2") == LoraChoice(tmp_path / "a", 2.0)
    assert parse_lora_option(f"{tmp_path}/a:b:0.5") == LoraChoice(tmp_path / "a:b", 0.5)


@pytest.mark.parametrize(
    ("text", "complaint"), [("x", "x does not exist"), ("x:1", "x does not exist"), (".:nan", "finite")]
)
def test_what_cannot_be_used_is_named(text: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        parse_lora_option(text)


def test_loras_are_added_with_their_weights(tmp_path: Path) -> None:
    pipeline, expected = tiny_pipeline(image=False), tiny_pipeline(image=False).unet
    first = random_lora(pipeline.unet, lambda name: name.endswith("attention.to_q"))
    second = random_lora(pipeline.unet, lambda name: name.endswith("mlp.linear_in"), seed=1)
    merge(expected, first, 0.5)
    merge(expected, second, -2.0)
    state = as_kohya(second)
    state |= {"lora_unet_x.lora_down.weight": torch.ones(1, 2), "lora_unet_x.lora_up.weight": torch.ones(2, 1)}
    save_file(as_kohya(first), tmp_path / "first.safetensors")
    save_file(state, tmp_path / "second.safetensors")
    choices = [LoraChoice(tmp_path / "first.safetensors", 0.5), LoraChoice(tmp_path / "second.safetensors", -2.0)]
    notes = add_loras(pipeline, choices)
    count = len(second) + 1
    assert notes == [
        f"{choices[1].path}: 1 of the LoRA's {count} layers do not match this model and are skipped (lora_unet_x)"
    ]
    clip, text = torch.randn(1, 4, 3, 4, 4), torch.randn(1, 5, 16)
    with torch.no_grad():
        given_, wanted = (
            network(clip, torch.tensor([9]), text, torch.tensor([8.0])) for network in (pipeline.unet, expected)
        )
    torch.testing.assert_close(given_, wanted, atol=1e-5, rtol=1e-4)
    assert add_loras(tiny_pipeline(image=False), []) == []


def test_generate_takes_loras(make: Run, tmp_path: Path) -> None:
    layers = random_lora(tiny_pipeline(image=False).unet, lambda name: name.endswith("to_q"), strength=2.0)
    save_file(as_kohya(layers), tmp_path / "style.safetensors")
    settings = ("a rocket", "--seed", 1, "--steps", 1, "--frames", 1)
    pictures = {}
    for name, options in {
        "plain": (),
        "silent": ("--lora", f"{tmp_path}/style.safetensors:0"),
        "style": ("--lora", tmp_path / "style.safetensors"),
    }.items():
        done = make(*settings, *options, "-o", tmp_path / name)
        assert done.exit_code == 0, done.output
        pictures[name] = [read_image(path).tobytes() for path in sorted((tmp_path / name).glob("*.png"))]
    assert pictures["plain"] == pictures["silent"] != pictures["style"]
    refused = make(*settings, "--lora", "nowhere.safetensors:0.5", "-o", tmp_path / "refused")
    assert refused.exit_code == 2
    assert "nowhere.safetensors does not exist" in refused.stderr
