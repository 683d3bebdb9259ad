from __future__ import annotations

import pytest
import torch
from peft.tuners.tuners_utils import BaseTunerLayer

from tests.tiny_models import tiny_pipeline
from videocrafter.models.unet import VideoUNet
from videocrafter.training.video.lora import LoraTraining, add_lora


def network_with(config: LoraTraining, dtype: torch.dtype = torch.float32) -> VideoUNet:
    network = tiny_pipeline(image=True).unet.requires_grad_(False).to(dtype)
    add_lora(network, config)
    return network


def changed(network: VideoUNet) -> set[str]:
    return {name for name, module in network.named_modules() if isinstance(module, BaseTunerLayer)}


def projections(network: VideoUNet, place: str = "") -> set[str]:
    """Names of the attention projections in a part of a network without LoRA."""
    return {
        name
        for name, module in network.named_modules()
        if isinstance(module, torch.nn.Linear) and name.endswith(("to_q", "to_k", "to_v", "to_out")) and place in name
    }


def test_the_layers_that_each_choice_changes() -> None:
    plain = tiny_pipeline(image=True).unet
    spatial = projections(plain, ".spatial.")
    temporal = projections(plain) - spatial
    assert len(spatial) == 8 * 4, "self-attention and cross-attention of four transformers"
    assert len(temporal) == 8 * 5, "two attentions in each of four transformers, and in the one behind the input"
    assert {name.partition(".")[0] for name in temporal} == {"temporal_in", "down_stages", "middle_in", "up_stages"}
    assert changed(network_with(LoraTraining(layers="attention"))) == spatial | temporal
    assert changed(network_with(LoraTraining(layers="temporal"))) == temporal
    assert changed(network_with(LoraTraining(layers="spatial"))) == spatial
    everywhere = changed(network_with(LoraTraining(layers="all")))
    more = {name.rpartition(".")[2] for name in everywhere - spatial - temporal}
    assert more == {"linear_in", "linear_out", "proj_in", "proj_out"}
    assert len(everywhere) == len(spatial | temporal) + 4 * 9


def test_only_the_lora_learns_and_it_changes_nothing_yet() -> None:
    plain = tiny_pipeline(image=True).unet
    network = network_with(LoraTraining(rank=3))
    learning = [name for name, parameter in network.named_parameters() if parameter.requires_grad]
    assert learning
    assert all(".lora_A." in name or ".lora_B." in name for name in learning)
    assert len(learning) == 2 * len(changed(network))
    given = torch.randn(1, 4, 4, 4, 4), torch.tensor([500]), torch.randn(1, 5, 16), torch.tensor([8.0])
    with torch.no_grad():
        assert torch.equal(network(*given), plain(*given))


@pytest.mark.parametrize(("alpha", "strength"), [(None, 1.0), (6.0, 2.0), (0.75, 0.25)])
def test_alpha_is_the_rank_unless_told(alpha: float | None, strength: float) -> None:
    network = network_with(LoraTraining(rank=3, alpha=alpha))
    layers = [module for module in network.modules() if isinstance(module, BaseTunerLayer)]
    assert {layer.scaling["default"] for layer in layers} == {strength}
    assert {layer.lora_A["default"].out_features for layer in layers} == {3}


def test_a_lora_learns_in_full_precision_beside_a_rounded_network() -> None:
    network = network_with(LoraTraining(rank=2, dropout=0.5), torch.bfloat16)
    for name, parameter in network.named_parameters():
        assert parameter.dtype == (torch.float32 if parameter.requires_grad else torch.bfloat16), name
    assert {module.p for module in network.modules() if isinstance(module, torch.nn.Dropout) and module.p} >= {0.5}


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"rank": 0}, "lora.rank is 0; it must be 1 or more"),
        ({"alpha": 0.0}, "lora.alpha is 0.0; it must be above 0, or none for the rank"),
        ({"dropout": 1.0}, r"lora.dropout is 1.0; expected a share in \[0, 1\)"),
        ({"layers": "mlp"}, "lora.layers is 'mlp', expected one of attention, temporal, spatial, all"),
    ],
)
def test_settings_that_make_no_sense(wrong: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        LoraTraining(**wrong)  # type: ignore[arg-type]
