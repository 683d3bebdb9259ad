"""Count the operations of one denoising pass of the full-size networks by kind, without weights.

    python -m benchmarks.operations

Networks run on the meta device, so the counts depend on no machine. They also tell what it is worth to share work
between guidance branches, or to keep it from step to step.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from benchmarks.report import Report, add_output_arguments, publish

if TYPE_CHECKING:
    from videocrafter.models.unet import VideoUNet

SIZES = (
    ("tiny-t2v", 128, 128),
    ("t2v-512", 256, 256),
    ("t2v-512", 320, 512),
    ("i2v-512", 320, 512),
    ("t2v-1024", 576, 1024),
)
NUM_FRAMES = 16
TEXT_TOKENS, IMAGE_TOKENS = 77, 16
COLUMNS = (
    "network",
    "TFLOP",
    "convolutions, %",
    "temporal layers, %",
    "spatial layers, %",
    "attention over positions, %",
    "text and image keys and values, %",
    "embeddings, %",
    "saved per guided step by sharing, %",
)


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="benchmarks.operations", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--smoke", action="store_true", help="only the smallest network")
    add_output_arguments(parser)
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    given = arguments(argv)
    rows = [row(*one) for one in SIZES[: 1 if given.smoke else None]]
    publish(
        Report(
            name="operations",
            title="Operations of a denoising pass",
            settings={"frames": NUM_FRAMES, "clips": 1},
            columns=COLUMNS,
            rows=rows,
            machine={"counted": "on the meta device"},
        ),
        given,
    )


def network_on_meta(name: str) -> VideoUNet:
    """Return the network of a preset without weights."""
    import torch

    from videocrafter.checkpoints.official.variants import official_variant
    from videocrafter.models.unet import VideoUNet
    from videocrafter.presets import PRESETS

    official, folder = official_variant(name), PRESETS[name].folder
    if official is not None:
        config = dict(official.unet)
    else:
        assert folder is not None, f"{name} neither ships nor is an official model"
        config = {key: value for key, value in VideoUNet.load_config(folder / "unet").items() if key[0] != "_"}
    with torch.device("meta"):
        return VideoUNet(**config).eval()


def row(name: str, height: int, width: int) -> tuple[object, ...]:
    network = network_on_meta(name)
    by_part = operations(network, height, width, branches=1)
    total = sum(by_part.values())
    shared = 1 - sum(operations(network, height, width, branches=2).values()) / (2 * total)

    def share(*words: str, without: tuple[str, ...] = ()) -> float:
        parts = (flops for part, flops in by_part.items() if _has(part, words) and not _has(part, without))
        return 100 * sum(parts) / total

    context = ("to_k", "to_v", "to_k_image", "to_v_image")
    keys = sum(flops for part, flops in by_part.items() if "cross_attention" in part and part.endswith(context))
    return (
        f"{name}, {width}x{height}",
        total / 1e12,
        share(".conv", "conv_in", "conv_out", ".skip", "resample", without=("temporal",)),
        share("temporal"),
        share("spatial", without=("self_attention:",)),
        share("self_attention:"),
        100 * keys / total,
        share("embedding"),
        100 * shared,
    )


def _has(part: str, words: tuple[str, ...]) -> bool:
    return any(word in part for word in words)


def operations(network: VideoUNet, height: int, width: int, branches: int) -> dict[str, int]:
    """Return the operations of a pass by part: a layer's name, or an attention's with a colon for its kernel."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    config = network.config
    latents = torch.empty(1, config["in_channels"], NUM_FRAMES, height // 8, width // 8, device="meta")
    text = torch.empty(branches, TEXT_TOKENS, config["context_dim"], device="meta")
    image = torch.empty(branches, IMAGE_TOKENS, config["context_dim"], device="meta")
    one = torch.ones(1, device="meta")
    counter = FlopCounterMode(display=False, depth=None)
    with torch.no_grad(), counter:
        network(latents, one, text, one, image if config["image_cross_attention"] else None)
    whole = type(network).__name__
    counted = {
        name.removeprefix(whole).removeprefix("."): sum(by_kind.values())
        for name, by_kind in counter.flop_counts.items()
        if name.startswith(whole)
    }
    own = dict(counted)
    for path, flops in counted.items():
        parent = path
        while parent:
            parent = parent.rpartition(".")[0]
            if parent in counted:
                own[parent] -= flops
                break
    with_parts = {path.rpartition(".")[0] for path in counted if path}
    return {path + (":" if path in with_parts else ""): flops for path, flops in own.items() if flops}


if __name__ == "__main__":
    main()
