"""The formulas against a count of the tensors that small networks allocate."""

import inspect
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from tests.tiny_models import tiny_pipeline
from videocrafter.models.unet import VideoUNet
from videocrafter.pipelines.generation_memory import (
    MemoryNeed,
    Parameters,
    Workload,
    available_memory,
    count_parameters,
    free_in_group,
    free_in_system,
    memory_need,
    network_configs,
    size_multiple,
)
from videocrafter.pipelines.long_video import LongVideo
from videocrafter.presets import PRESETS

VAE: dict[str, Any] = {
    "block_out_channels": (8, 16),
    "down_block_types": ("DownEncoderBlock2D",) * 2,
    "up_block_types": ("UpDecoderBlock2D",) * 2,
    "latent_channels": 4,
    "norm_num_groups": 4,
    "in_channels": 3,
}
OFFICIAL_VAE = {"block_out_channels": (128, 256, 512, 512), "in_channels": 3}
UNET_DEFAULTS = {
    one.name: one.default for one in inspect.signature(VideoUNet.__init__).parameters.values() if one.name != "self"
}
SMALL: dict[str, Any] = {
    "model_channels": 16,
    "channel_mult": (1, 2),
    "num_res_blocks": 1,
    "attention_levels": (0, 1),
    "head_dim": 8,
    "context_dim": 12,
    "norm_groups": 4,
    "initial_temporal_heads": 0,
}
NO_WEIGHTS = Parameters(denoiser=0, others=0, largest=0)


def all_parameters(number: int) -> Parameters:
    return Parameters(denoiser=number, others=0, largest=0)


class Meter(TorchDispatchMode):
    """Peak number of bytes of the tensors allocated inside the context."""

    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.known = {tensor.untyped_storage()._cdata for tensor in (*network.parameters(), *network.buffers())}
        self.now = self.peak = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(made):
            if isinstance(leaf, torch.Tensor) and leaf.untyped_storage()._cdata not in self.known:
                storage = leaf.untyped_storage()
                self.known.add(storage._cdata)
                self.now += storage.nbytes()
                self.peak = max(self.peak, self.now)
                weakref.finalize(storage, self.forget, storage._cdata, storage.nbytes())
        return made

    def forget(self, key: int, size: int) -> None:
        self.known.discard(key)
        self.now -= size


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"attention_levels": (1,)},
        {"initial_temporal_heads": 4},
        {"relative_position": True, "temporal_convolution": True},
        {"channel_mult": (1, 2, 4), "attention_levels": (0, 1, 2), "num_res_blocks": 2},
    ],
    ids=str,
)
def test_the_denoisers_need_is_its_count_or_a_little_less(options: dict[str, Any]) -> None:
    config = {**SMALL, **options}
    unet = VideoUNet(**config).eval()
    clip = torch.zeros(1, 4, 5, 16, 24)
    given = (clip, torch.tensor([5]), torch.zeros(2, 3, 12), torch.tensor([8.0]))
    with torch.no_grad(), Meter(unet) as meter:
        unet(*given)
    workload = Workload(num_videos=1, branches=2, num_frames=5, height=32, width=48)
    needed = memory_need({**UNET_DEFAULTS, **config}, VAE, NO_WEIGHTS, workload).denoiser
    assert 0.7 * meter.peak < needed < 1.02 * meter.peak


@pytest.mark.parametrize("widths", [(8, 16), (16, 8), (8, 16, 16)])
def test_the_decoders_need_is_its_count_or_a_little_less(widths: tuple[int, ...]) -> None:
    levels = len(widths)
    config = {
        **VAE,
        "block_out_channels": widths,
        "down_block_types": VAE["down_block_types"][:1] * levels,
        "up_block_types": VAE["up_block_types"][:1] * levels,
    }
    vae = AutoencoderKL(**config).eval()
    factor = 2 ** (levels - 1)
    with torch.no_grad(), Meter(vae) as meter:
        vae.decode(torch.zeros(4, 4, 16, 16))
    workload = Workload(num_videos=1, branches=2, num_frames=4, height=16 * factor, width=16 * factor)
    needed = memory_need({**UNET_DEFAULTS, **SMALL}, config, NO_WEIGHTS, workload)
    pixels = 4 * 3 * (16 * factor) ** 2 * 4
    assert 0.5 * meter.peak < needed.decoder - pixels < 1.02 * meter.peak


def test_a_long_videos_need_is_its_count_or_a_little_less() -> None:
    pipeline = tiny_pipeline(image=False)
    frames = 48
    long = LongVideo(pipeline)
    with Meter(pipeline.unet) as meter:
        latents = long("a cat", num_frames=frames, num_inference_steps=1, output_type="latent").frames
    unet, vae = dict(pipeline.unet.config), dict(pipeline.vae.config)
    defaults = pipeline.generation_defaults
    workload = Workload(
        num_videos=1,
        branches=2,
        num_frames=frames,
        height=defaults.height,
        width=defaults.width,
        window=defaults.num_frames,
    )
    needed = memory_need(unet, vae, NO_WEIGHTS, workload)
    assert 0.4 * meter.peak < needed.denoiser < 1.02 * meter.peak
    pixels = frames * defaults.height * defaults.width * 3
    assert needed.decoder >= latents.nbytes + 2 * pixels


@pytest.mark.parametrize("name", ["t2v-512", "t2v-1024", "i2v-512", "vc2-t2v-512", "t2v-256"])
def test_official_sizes_agree_with_what_the_presets_say(name: str) -> None:
    """The expected values were counted on full-size networks."""
    preset = PRESETS[name]
    options = {"relative_position": not preset.has_fps_condition or name == "t2v-1024"}
    workload = Workload(
        num_videos=1,
        branches=2,
        num_frames=preset.defaults["num_frames"],
        height=preset.defaults["height"],
        width=preset.defaults["width"],
        element_bytes=2,
    )
    needed = memory_need({**UNET_DEFAULTS, **options}, OFFICIAL_VAE, all_parameters(preset.num_parameters), workload)
    assert needed.total == pytest.approx(preset.memory_bytes, rel=0.02)


def need(**changes: Any) -> MemoryNeed:
    asked = {"num_videos": 1, "branches": 2, "num_frames": 16, "height": 320, "width": 512, **changes}
    return memory_need(UNET_DEFAULTS, OFFICIAL_VAE, all_parameters(1_000_000), Workload(**asked))


def test_more_of_anything_needs_more_and_half_precision_half() -> None:
    usual = need()
    assert need(element_bytes=2).total == usual.total // 2
    for more in ({"num_videos": 2}, {"branches": 3}, {"num_frames": 32}, {"height": 640}):
        assert need(**more).denoiser > usual.denoiser
    assert usual.denoiser < need(num_frames=160, window=16).denoiser < 1.02 * usual.denoiser
    assert need(num_frames=160, window=16).decoder < 2 * usual.decoder


def test_a_saved_pipeline_tells_its_own_need(t2v, t2v_folder: Path) -> None:
    unet, vae = network_configs(t2v_folder)
    assert size_multiple(unet, vae) == t2v.size_multiple
    parts = (t2v.unet, t2v.vae, t2v.text_encoder)
    parameters = sum(one.numel() for part in parts for one in part.parameters())
    assert count_parameters(t2v_folder).total == pytest.approx(parameters, rel=0.02)


def test_linux_tells_what_is_free(tmp_path: Path) -> None:
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal:  2000 kB\nMemFree: 10 kB\nMemAvailable:    1500 kB\n")
    assert free_in_system(meminfo) == 1500 * 1024
    # Without it, the total: free memory is unknown, and nothing that fits may be refused.
    meminfo.write_text("nonsense")
    everything = free_in_system(meminfo)
    assert everything is None or everything > 2**28


def test_the_limit_of_a_container_counts_but_not_its_cached_files(tmp_path: Path) -> None:
    assert free_in_group(tmp_path) is None
    (tmp_path / "memory.max").write_text("1000\n")
    (tmp_path / "memory.current").write_text("900\n")
    (tmp_path / "memory.stat").write_text("anon 300\nactive_file 200\ninactive_file 400\nslab 1\n")
    assert free_in_group(tmp_path) == 1000 - (900 - 600)
    (tmp_path / "memory.max").write_text("max\n")
    assert free_in_group(tmp_path) is None


def test_this_machine_answers() -> None:
    available = available_memory(torch.device("cpu"))
    assert available is None or available > 2**20
    assert available_memory(torch.device("meta")) is None
