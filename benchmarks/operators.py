"""Measure where the time of a denoising pass goes, by operator, and what it is worth next to the machine's peak.

    python -m benchmarks.operators
    python -m benchmarks.operators --dtype bfloat16 --channels 320

A network with the layers of T2V-512, in a quarter of its width unless `--channels` says otherwise, is timed at three
sizes next to diffusers' `UNet3DConditionModel` of the same widths. The peak is that of a large matrix product in the
same run and type.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from benchmarks.report import Report, add_report_arguments, machine, positive, publish
from benchmarks.turns import Readings, paired_ratio, take_turns, torch_threads

NUM_FRAMES = 16
SIZES = (64, 128, 256)
KINDS: Mapping[str, tuple[str, ...]] = {
    "convolutions": ("convolution",),
    "matrix products": ("addmm", "::mm", "bmm"),
    "fused attention": ("scaled_dot_product",),
    "norms": ("norm",),
    "activations, sums": ("silu", "gelu", "softmax", "::mul", "::add", "::div", "addcmul"),
    "copies": ("copy", "::cat", "clone", "to_copy", "contiguous", "upsample"),
}
COLUMNS = (
    "pixels",
    *KINDS,
    "other",
    "share of the peak",
    "diffusers' share of the peak",
    "CPU seconds, of diffusers'",
)


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="benchmarks.operators", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--channels", type=positive, default=80, help="width of the first level (%(default)s)")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32", help="(%(default)s)")
    parser.add_argument("--threads", type=positive, default=1, help="(%(default)s)")
    add_report_arguments(parser, repeats=3)
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    given = arguments(argv)
    where = machine()
    if given.smoke:
        given.channels = 32
    import torch

    torch.manual_seed(0)
    dtype = getattr(torch, given.dtype)
    ours, theirs = networks(given.channels, dtype)
    with torch_threads(given.threads), torch.inference_mode():
        rows = [row(size, ours, theirs, dtype, given.repeats) for size in SIZES[: 1 if given.smoke else None]]
    report = Report(
        name="operators",
        title="Where the time of a denoising pass goes",
        settings={name: getattr(given, name) for name in ("channels", "dtype", "threads", "repeats", "smoke")}
        | {"frames": NUM_FRAMES},
        columns=COLUMNS,
        rows=rows,
        machine=where,
        notes=[
            "Operators are in percent of the time that the profiler attributes to each itself.",
            "CPU seconds are those of this process only, so that other programs affect them less.",
        ],
    )
    publish(report, given)


def networks(channels: int, dtype: Any) -> tuple[Any, Any]:
    """Return our network and diffusers' with the same widths, levels and layers."""
    from diffusers import UNet3DConditionModel

    from videocrafter.models.unet import VideoUNet

    head_dim = 64 if channels % 64 == 0 else 16
    ours = VideoUNet(
        model_channels=channels, head_dim=head_dim, context_dim=channels, norm_groups=8, fps_condition=False,
        temporal_convolution=True, initial_temporal_heads=channels // head_dim,
    )  # fmt: skip
    theirs = UNet3DConditionModel(
        block_out_channels=tuple(channels * multiple for multiple in (1, 2, 4, 4)),
        cross_attention_dim=channels,
        attention_head_dim=head_dim,
        norm_num_groups=8,
    )
    return ours.to(dtype).eval(), theirs.to(dtype).eval()


def row(size: int, ours: Any, theirs: Any, dtype: Any, repeats: int) -> tuple[object, ...]:
    import torch

    latents = torch.randn(1, 4, NUM_FRAMES, size // 8, size // 8).to(dtype)
    text, step = torch.randn(1, 77, ours.config["context_dim"]).to(dtype), torch.tensor([500])
    calls: dict[str, Callable[[], Any]] = {
        "ours": lambda: ours(latents, step, text),
        "diffusers": lambda: theirs(latents, step, text),
        "matrix product": matrix_product(dtype),
    }
    for call in calls.values():
        call()
    turns = take_turns({name: partial(cpu_seconds, call) for name, call in calls.items()}, repeats)
    seconds = {name: [one["CPU seconds"] for one in rounds] for name, rounds in turns.items()}
    # Operations per second, of the network over those of the matrix product in the same round.
    worth = {
        name: operations(calls[name])
        / operations(calls["matrix product"])
        / paired_ratio(seconds[name], seconds["matrix product"])
        for name in ("ours", "diffusers")
    }
    shares = by_kind(calls["ours"])
    ratio = paired_ratio(seconds["ours"], seconds["diffusers"])
    return (f"{size}x{size}", *(shares[kind] for kind in (*KINDS, "other")), worth["ours"], worth["diffusers"], ratio)


def matrix_product(dtype: Any) -> Callable[[], Any]:
    import torch

    left, right = torch.randn(1024, 1024).to(dtype), torch.randn(1024, 1024).to(dtype)
    return lambda: [left @ right for _ in range(8)]


def cpu_seconds(call: Callable[[], Any]) -> Readings:
    began = time.process_time()
    call()
    return {"CPU seconds": time.process_time() - began}


def operations(call: Callable[[], Any]) -> int:
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        call()
    return counter.get_total_flops()


def by_kind(call: Callable[[], Any]) -> dict[str, float]:
    """Return the percentage of each kind of operator in the time that the profiler attributes to each itself."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        call()
    spent = dict.fromkeys((*KINDS, "other"), 0.0)
    for event in profiler.key_averages():
        name = event.key.lower()
        kind = next((kind for kind, words in KINDS.items() if any(word in name for word in words)), "other")
        spent[kind] += event.self_cpu_time_total
    total = sum(spent.values())
    return {kind: 100 * time_of / total for kind, time_of in spent.items()}


if __name__ == "__main__":
    main()
