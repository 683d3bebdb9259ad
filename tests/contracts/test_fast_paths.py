"""Every preset's network, at toy size, reaches fused attention kernels and compiles into one graph."""

import json
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention
from torch.utils._python_dispatch import TorchDispatchMode

from videocrafter.checkpoints.official.variants import official_variant
from videocrafter.models.attention import (
    DualCrossAttention,
    RelativeTemporalAttention,
    SelfAttention,
    TemporalAttention,
)
from videocrafter.models.unet import VideoUNet
from videocrafter.presets import PRESETS

FUSED = "_scaled_dot_product_flash_attention_for_cpu"
GRID_LIMIT = 65_535
"""Largest batch and number of heads that CUDA's fused kernels accept."""
TOY = {"channel_mult": (1, 2), "num_res_blocks": 1, "attention_levels": (), "context_dim": 32}
"""The middle alone has transformers, which is enough to hold every kind of part once."""
ONLY_FOR_IMAGES = "temporal_layers_on_images"


def toy_config(name: str) -> dict[str, Any]:
    """The network's config of a preset with its options and head widths, but few channels and layers."""
    official, folder = official_variant(name), PRESETS[name].folder
    if official is not None:
        config = {**official.unet, "model_channels": official.unet["head_dim"]}
    else:
        assert folder is not None
        config = {key: value for key, value in VideoUNet.load_config(folder / "unet").items() if key[0] != "_"}
    return {key: value for key, value in {**config, **TOY}.items() if key != ONLY_FOR_IMAGES}


CONFIGS = {json.dumps(toy_config(name), sort_keys=True): name for name in PRESETS}
"""The networks that differ on clips, each with the name of one of its presets."""


def network_of(config: str) -> VideoUNet:
    """A network whose layers are not zero-initialised."""
    torch.manual_seed(0)
    network = VideoUNet(**json.loads(config))
    for parameter in network.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=0.1)
    return network.requires_grad_(False).eval()


def inputs_of(network: VideoUNet, seed: int = 0, batch: int = 2) -> tuple[Any, ...]:
    """Latents, timestep, text, fps and image tokens of a step; another seed is another step and prompt."""
    draw = torch.Generator().manual_seed(seed)
    image = torch.randn(batch, 3, 32, generator=draw) if network.config["image_cross_attention"] else None
    latents = torch.randn(batch, network.config["in_channels"], 3, 4, 4, generator=draw)
    text = torch.randn(batch, 7, 32, generator=draw)
    return latents, torch.full((batch,), 901 - 100 * seed), text, torch.full((batch,), 8.0 + seed), image


class Kernels(TorchDispatchMode):
    """Counts the attention kernels that run."""

    def __init__(self) -> None:
        super().__init__()
        self.used: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func._overloadpacket.__name__
        if "attention" in name:
            self.used[name] += 1
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("config", CONFIGS, ids=CONFIGS.values())
def test_attention_reaches_the_fused_kernel(config: str) -> None:
    network = network_of(config)
    parts = list(network.modules())
    spatial = sum(isinstance(part, SelfAttention) for part in parts)
    cross = sum(1 + (part.to_k_image is not None) for part in parts if isinstance(part, DualCrossAttention))
    temporal = [part for part in parts if isinstance(part, TemporalAttention)]
    fused_temporal = sum(not isinstance(part, RelativeTemporalAttention) for part in temporal)
    assert min(spatial, cross, len(temporal)) > 0
    with torch.no_grad(), sdpa_kernel(SDPBackend.FLASH_ATTENTION), Kernels() as kernels:
        network(*inputs_of(network, batch=2))
    assert kernels.used == {FUSED: spatial + cross + 2 * fused_temporal}


def test_the_fused_kernel_refuses_what_the_network_avoids() -> None:
    x = torch.randn(1, 2, 2, 3, 8)
    with (
        torch.no_grad(),
        sdpa_kernel(SDPBackend.FLASH_ATTENTION),
        pytest.warns(UserWarning, match="4 dimensional"),
        pytest.raises(RuntimeError, match="No available kernel"),
    ):
        scaled_dot_product_attention(x, x, x)


def test_the_largest_released_size_stays_within_the_limits_of_fused_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """576 x 1024 pixels, both guidance branches, the eight heads of the first temporal transformer."""
    shapes: list[torch.Size] = []

    def record(q: Tensor, k: Tensor, v: Tensor, backend: str | None) -> Tensor:
        shapes.extend(x.shape for x in (q, k, v))
        return v

    monkeypatch.setattr("videocrafter.models.attention.attend", record)
    with torch.device("meta"):
        TemporalAttention(320, 8, 64)(torch.empty(2, 16, 72 * 128, 320))
    assert {len(shape) for shape in shapes} == {4}
    assert max(max(shape[:2]) for shape in shapes) <= GRID_LIMIT


@pytest.mark.parametrize("config", CONFIGS, ids=CONFIGS.values())
def test_a_step_compiles_into_one_graph_for_all_steps_and_prompts(config: str) -> None:
    network, graphs = network_of(config), []

    def keep(graph: torch.fx.GraphModule, example: list[Tensor]) -> Callable[..., Any]:
        graphs.append(graph)
        return graph.forward

    torch._dynamo.reset()
    compiled = torch.compile(network, fullgraph=True, backend=keep)
    with torch.no_grad():
        for seed in range(3):
            given = inputs_of(network, seed)
            torch.testing.assert_close(compiled(*given), network(*given))
    assert len(graphs) == 1
