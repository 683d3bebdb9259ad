import json
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from tests.tiny_loras import adapter_config, as_kohya, as_lora_down, as_peft, as_processors
from videocrafter.checkpoints.lora.adapter_settings import ADAPTER_METADATA
from videocrafter.checkpoints.lora.lora_file import LoraLayer, parse_lora, read_lora
from videocrafter.presets import LORA_FILE


def layer(rank: int = 2, alpha: float = 3.0) -> LoraLayer:
    return LoraLayer(down=torch.randn(rank, 4), up=torch.randn(6, rank), alpha=alpha)


LAYERS = {"a.attn1.to_q": layer(), "a.attn1.to_out.0": layer(3, 0.5), "a.proj_in": layer(1, 1.0)}


@pytest.mark.parametrize(
    ("state", "names"),
    [
        (as_kohya(LAYERS), ["lora_unet_a_attn1_to_q", "lora_unet_a_attn1_to_out_0", "lora_unet_a_proj_in"]),
        (as_peft(LAYERS), ["unet.a.attn1.to_q", "unet.a.attn1.to_out.0", "unet.a.proj_in"]),
        (as_peft(LAYERS, "", ".style"), ["a.attn1.to_q", "a.attn1.to_out.0", "a.proj_in"]),
        (as_lora_down(LAYERS), ["unet.a.attn1.to_q", "unet.a.attn1.to_out.0", "unet.a.proj_in"]),
        (
            as_processors({name: one for name, one in LAYERS.items() if "attn" in name}),
            ["unet.a.attn1.processor.to_q", "unet.a.attn1.processor.to_out"],
        ),
    ],
    ids=["kohya", "peft", "one adapter of several", "diffusers", "processors"],
)
def test_every_layout_gives_the_same_layers(state: dict[str, torch.Tensor], names: list[str]) -> None:
    lora = parse_lora(state, name="x")
    assert list(lora.layers) == names
    assert lora.unsupported == ()
    for found, given_layer in zip(lora.layers.values(), LAYERS.values(), strict=False):
        assert found.down is given_layer.down
        assert found.up is given_layer.up
        has_alpha = any(key.endswith(".alpha") for key in state)
        assert found.alpha == (given_layer.alpha if has_alpha else given_layer.rank)


def test_alpha_stands_in_the_header_of_files_that_diffusers_writes(tmp_path: Path) -> None:
    header = {"format": "pt", ADAPTER_METADATA: json.dumps(adapter_config(LAYERS))}
    save_file(as_peft(LAYERS), tmp_path / LORA_FILE, metadata=header)
    save_file(as_peft(LAYERS), tmp_path / "another.safetensors")
    found = read_lora(tmp_path).layers
    assert {name.removeprefix("unet."): one.alpha for name, one in found.items()} == {
        name: one.alpha for name, one in LAYERS.items()
    }


def test_rank_stabilised_loras_are_divided_by_the_root_of_the_rank() -> None:
    config = {"unet.lora_alpha": 6, "unet.use_rslora": True}
    found = parse_lora(as_peft({"x": layer(rank=4)}), name="x", settings=config).layers["unet.x"]
    assert found.alpha / found.rank == 6 / 4**0.5


@given(alpha=st.floats(-100, 100), rank=st.integers(1, 8))
def test_alpha_is_read_as_it_is(alpha: float, rank: int) -> None:
    alpha = float(torch.tensor(alpha))
    found = parse_lora(as_kohya({"x": layer(rank, alpha)}), name="x").layers["lora_unet_x"]
    assert (found.alpha, found.rank) == (alpha, rank)


def test_layers_that_are_half_there_or_of_another_kind_are_set_apart() -> None:
    state = as_peft({name: layer() for name in ("good", "half", "dora", "tucker", "ranks", "empty")})
    del state["unet.half.lora_B.weight"]
    state["unet.dora.lora_magnitude_vector"] = torch.ones(6)
    state["unet.tucker.lora_mid.weight"] = torch.ones(2, 2, 3, 3)
    state["unet.ranks.lora_B.weight"] = torch.ones(6, 5)
    state |= {"unet.empty.lora_A.weight": torch.ones(0, 4), "unet.empty.lora_B.weight": torch.ones(6, 0)}
    state["unet.norm.diff"] = torch.ones(6)
    lora = parse_lora(state, name="x")
    assert list(lora.layers) == ["unet.good"]
    set_apart = ["dora", "half", "norm", "ranks", "tucker"]
    assert lora.unsupported == tuple(f"unet.{name}" for name in set_apart)


@pytest.mark.parametrize(
    ("state", "complaint"),
    [
        ({"lora_unet_x.hada_w1_a": torch.ones(2, 2)}, "it seems to be a LoHa, which is not supported"),
        ({"lora_unet_x.lokr_w1": torch.ones(2, 2)}, "it seems to be a LoKr"),
        ({"model.diffusion_model.out.2.bias": torch.ones(4)}, "it seems to be a whole checkpoint; convert it"),
        ({"conv_in.weight": torch.ones(4)}, r"none of its 1 tensors belongs to a LoRA layer \(conv_in.weight"),
        ({}, "none of its 0 tensors"),
    ],
)
def test_what_is_no_lora_is_named(state: dict[str, torch.Tensor], complaint: str) -> None:
    with pytest.raises(ValueError, match=f"the given state dict cannot be used as a LoRA: {complaint}"):
        read_lora(state)


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="nothing does not exist; pass a LoRA"):
        read_lora(tmp_path / "nothing")
    with pytest.raises(ValueError, match=r"holds 0 files of weights and no pytorch_lora_weights.safetensors"):
        read_lora(tmp_path)
    for name in ("one", "two"):
        save_file(as_peft(LAYERS), tmp_path / f"{name}.safetensors")
    with pytest.raises(
        ValueError, match=r"holds 2 .* \(one.safetensors, two.safetensors\) .*; pass the LoRA file itself"
    ):
        read_lora(str(tmp_path))
    content = (tmp_path / "one.safetensors").read_bytes()
    (tmp_path / "one.safetensors").write_bytes(content[:-10])
    with pytest.raises(ValueError, match="truncated or damaged"):
        read_lora(tmp_path / "one.safetensors")
    save_file(as_peft(LAYERS), tmp_path / "two.safetensors", metadata={ADAPTER_METADATA: "{"})
    with pytest.raises(ValueError, match=r"lora_adapter_metadata in the header of .* is damaged"):
        read_lora(tmp_path / "two.safetensors")
    strange = {ADAPTER_METADATA: json.dumps({"unet.lora_alpha": {"a": 1}})}
    save_file(as_peft(LAYERS), tmp_path / "two.safetensors", metadata=strange)
    with pytest.raises(ValueError, match=r"alpha of unet.* is unreadable"):
        read_lora(tmp_path / "two.safetensors")


def test_pickled_loras_are_read_without_running_anything(tmp_path: Path) -> None:
    torch.save(as_kohya(LAYERS), tmp_path / "lora.pt")
    assert len(read_lora(tmp_path / "lora.pt").layers) == 3
    torch.save({"x": print}, tmp_path / "evil.pt")
    with pytest.raises(ValueError, match="could run code"):
        read_lora(tmp_path / "evil.pt")
