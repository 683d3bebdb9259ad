"""Measure judges on held-out clips: real, blurred to a quarter, reconstructed, and with blobs of mean colour."""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from diffusers import AutoencoderKL
from torch import Tensor

from videocrafter.cli.quiet_libraries import silence_libraries
from videocrafter.data.sprite_world.renderer import blob_of, load_sprite
from videocrafter.data.sprite_world.world import MINIATURE_WORLD, SpriteWorld
from videocrafter.evaluation.exam.clips import ChangedClips, Clips, RealClips, in_batches
from videocrafter.evaluation.exam.judging import Verdicts, judge_videos, load_judge, mark
from videocrafter.models.autoencoder import decode_video, encode_video
from videocrafter.training.miniature.degradation import blur

SEED = 77
KINDS = ("real", "reconstructed", "blobs", "blurred")


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("judges", type=Path, nargs="+", help="folders of judges")
    parser.add_argument("--vae", type=Path, help="folder of an autoencoder; default: no reconstructions")
    parser.add_argument("--size", type=int, default=MINIATURE_WORLD.height, help="side of the clips in pixels")
    parser.add_argument("--frames", type=int, default=MINIATURE_WORLD.num_frames, help="frames per clip")
    parser.add_argument(
        "--diameter", type=float, default=MINIATURE_WORLD.diameter, help="mean diameter of the sprites, in widths"
    )
    parser.add_argument("--kinds", nargs="+", choices=KINDS, help="kinds of clips; default: all that are possible")
    parser.add_argument("--clips", type=int, default=240, help="number of clips")
    given = parser.parse_args(argv)
    if given.kinds is None:
        given.kinds = [kind for kind in KINDS if kind != "reconstructed" or given.vae is not None]
    elif "reconstructed" in given.kinds and given.vae is None:
        parser.error("--kinds reconstructed needs an autoencoder; pass --vae, or leave the kind out")
    return given


def main() -> None:
    given = parse()
    silence_libraries()
    config = replace(
        MINIATURE_WORLD,
        height=given.size,
        width=given.size,
        num_frames=given.frames,
        diameter=given.diameter,
        split="held_out",
        seed=SEED,
    )
    world = SpriteWorld(config)
    scripts = [world.script(index) for index in range(given.clips)]
    real = RealClips(world, scripts)
    blobs = SpriteWorld(config, picture=lambda name: blob_of(load_sprite(name)))
    kinds: dict[str, Clips] = {
        "real": real,
        "blobs": RealClips(blobs, scripts),
        "blurred": ChangedClips(real, blurred(given.size // 4)),
    }
    if given.vae is not None:
        vae = AutoencoderKL.from_pretrained(given.vae, torch_dtype=torch.float32).eval()
        kinds["reconstructed"] = ChangedClips(real, rebuilt(vae))
    judges = {folder: load_judge(folder) for folder in given.judges}
    for kind, clips in kinds.items():
        if kind not in given.kinds:
            continue
        labels: dict[Path, list[Verdicts]] = {folder: [] for folder in judges}
        for batch in in_batches(clips, 8):
            for folder, judge in judges.items():
                labels[folder].append(judge_videos(judge, batch))
        for folder, parts in labels.items():
            marks = mark(Verdicts.joined(parts), scripts)
            shares = ", ".join(
                f"{what} {100 * sum(getattr(marks, what)) / len(scripts):.1f} %"
                for what in ("subject", "motion", "scene")
            )
            print(f"{folder}, {kind}, {len(scripts)} clips: {shares}", flush=True)


def blurred(side: int) -> Callable[[Tensor], Tensor]:
    return lambda clips: torch.stack([blur(clip, side) for clip in clips])


def rebuilt(vae: AutoencoderKL) -> Callable[[Tensor], Tensor]:
    @torch.no_grad()
    def change(clips: Tensor) -> Tensor:
        return decode_video(vae, encode_video(vae, clips, sample=False)).clamp(-1.0, 1.0)

    return change


if __name__ == "__main__":
    main()
