"""Measure temporal attention with and without relative positions, and both next to their former computation.

    python -m benchmarks.temporal_attention
    python -m benchmarks.temporal_attention --height 576 --width 1024

Every variant is one attention layer with its projections, at the widths of T2V-1024, for both guidance branches. All
give the same result, up to rounding, as their former computation.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from benchmarks.report import Report, add_report_arguments, machine, positive, publish
from benchmarks.turns import COLUMNS, Readings, compare, take_turns, torch_threads

if TYPE_CHECKING:
    from torch import Tensor

    from videocrafter.models.attention import TemporalAttention

HEAD_DIM = 64
PIXELS_PER_LATENT = 8
BRANCHES = 2


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="benchmarks.temporal_attention",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--level", type=int, choices=range(3), default=0, help="level of the U-Net (%(default)s)")
    parser.add_argument("--height", type=positive, default=256, help="in pixels (%(default)s)")
    parser.add_argument("--width", type=positive, default=256, help="in pixels (%(default)s)")
    parser.add_argument("--frames", type=positive, default=16, help="frames of a clip (%(default)s)")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32", help="(%(default)s)")
    parser.add_argument("--threads", type=positive, default=1, help="(%(default)s)")
    add_report_arguments(parser, repeats=5)
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    given = arguments(argv)
    where = machine()
    if given.smoke:
        given.height = given.width = 32
    import torch

    from videocrafter.models.attention import temporal_attention

    torch.manual_seed(0)
    dtype = getattr(torch, given.dtype)
    channels = 320 * (1, 2, 4)[given.level]
    positions = (given.height // PIXELS_PER_LATENT >> given.level) * (given.width // PIXELS_PER_LATENT >> given.level)
    build = partial(temporal_attention, channels, channels // HEAD_DIM, HEAD_DIM)
    plain, relative = build(None).to(dtype), build(given.frames).to(dtype)
    x = torch.randn(BRANCHES, given.frames, positions, channels).to(dtype)
    variants: dict[str, Callable[[Tensor], Tensor]] = {
        "no positions": plain,
        "relative positions": relative,
        "no positions, five dimensions": partial(in_five_dimensions, plain),
        "relative positions, five dimensions": partial(in_five_dimensions, relative),
        "no positions again": plain,
    }
    with torch_threads(given.threads), torch.inference_mode():
        for attend in variants.values():
            attend(x)
        turns = take_turns(
            {name: partial(cpu_seconds, attend, x) for name, attend in variants.items()}, given.repeats
        )
    publish(
        Report(
            name="temporal_attention",
            title="Temporal attention",
            settings={
                name: getattr(given, name)
                for name in ("level", "height", "width", "frames", "dtype", "threads", "repeats", "smoke")
            },
            columns=COLUMNS,
            rows=compare(turns, baseline="no positions"),
            machine=where,
            notes=["CPU seconds are those of this process only, so that other programs affect them less."],
            turns=turns,
        ),
        given,
    )


def cpu_seconds(attend: Callable[[Tensor], Tensor], x: Tensor) -> Readings:
    began = time.process_time()
    attend(x)
    return {"CPU seconds": time.process_time() - began}


def in_five_dimensions(attention: TemporalAttention, x_BTPC: Tensor) -> Tensor:
    """Return the same result by the former computation, with all clips in one five-dimensional tensor."""
    import torch

    from videocrafter.models.attention import RelativeTemporalAttention, attend

    q, k, v = (
        project(x_BTPC).unflatten(-1, (attention.heads, -1)).permute(0, 2, 3, 1, 4)
        for project in (attention.to_q, attention.to_k, attention.to_v)
    )
    if isinstance(attention, RelativeTemporalAttention):
        num_frames = q.shape[-2]
        k_TTK, v_TTK = attention.relative_k(num_frames), attention.relative_v(num_frames)
        q = q * q.shape[-1] ** -0.5
        scores = q @ k.transpose(-1, -2) + torch.einsum("bpgtk,tsk->bpgts", q, k_TTK)
        weights = torch.softmax(scores, dim=-1)
        out = weights @ v + torch.einsum("bpgts,tsk->bpgtk", weights, v_TTK)
    else:
        out = attend(q, k, v)
    return attention.to_out(out.permute(0, 3, 1, 2, 4).flatten(-2))


if __name__ == "__main__":
    main()
