"""Compare the peak memory that `videocrafter plan` computes with that of real training runs of two steps.

    python -m benchmarks.plan
    python -m benchmarks.plan --runs "reduced, bf16" "reduced, LoRA" --channels 64

Every run trains on the CPU in its own process. The measured value is the growth of its memory over that of Python and
the libraries after a toy run, without pages of mapped files, which the system can reclaim. "reduced" is the recipe
t2v-256 or lora with a narrower version of the paper's network (--channels instead of 320) and the miniature's
autoencoder and text encoder. Needs Linux.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from unittest import mock

from benchmarks.data_loading import make_clips
from benchmarks.process_memory import forget_peak, status
from benchmarks.report import Report, add_output_arguments, machine, positive, publish

if TYPE_CHECKING:
    from videocrafter.training.config import RecipeConfig

COLUMNS = ("run", "peak during", "computed, MiB", "measured, MiB", "measured / computed")
QUIET = ("sample_every=0", "validate_every=0", "num_steps=2", "checkpoint_seconds=0", "checkpoint_every=0")
MINIATURE = ("precision=fp32", "task.image_share=0", "task.num_clips=32", "task.num_images=32", "task.batch_size=8")
REDUCED = ("task.data.image_share=none", "task.data.image_batch_size=none", "optimizer.accumulate=2")
RUNS: dict[str, tuple[str, tuple[str, ...]]] = {
    "tiny-t2v, high, fp32": ("tiny-t2v", MINIATURE),
    "tiny-t2v, high, bf16": ("tiny-t2v", (*MINIATURE, "precision=bf16")),
    "reduced, fp32": ("t2v-256", (*REDUCED, "precision=fp32")),
    "reduced, bf16": ("t2v-256", (*REDUCED, "precision=bf16")),
    "reduced, no checkpointing": (
        "t2v-256",
        (*REDUCED, "precision=fp32", "task.gradient_checkpointing=false"),
    ),
    "reduced, one pass per step": ("t2v-256", (*REDUCED, "precision=fp32", "optimizer.accumulate=1")),
    "reduced, moments in bf16": ("t2v-256", (*REDUCED, "precision=fp32", "optimizer.state_dtype=bf16")),
    "reduced, LoRA": ("lora", ("precision=fp32", "task.frames_like_start=false")),
}


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="benchmarks.plan", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", nargs="+", choices=RUNS, default=list(RUNS), metavar="RUN", help="default: all")
    parser.add_argument(
        "--channels",
        type=positive,
        default=64,
        help="channels of the reduced network; 320 in the paper (%(default)s)",
    )
    parser.add_argument(
        "--size", type=positive, default=128, help="height and width of the reduced runs' clips (%(default)s)"
    )
    parser.add_argument("--frames", type=positive, default=8, help="frames of the reduced runs' clips (%(default)s)")
    parser.add_argument("--batch", type=positive, default=1, help="clips per pass of the reduced runs (%(default)s)")
    parser.add_argument("--smoke", action="store_true", help="toy sizes, to check that the script runs")
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.set_defaults(toy=False)
    parser.add_argument("--worker", choices=RUNS, help=argparse.SUPPRESS)
    add_output_arguments(parser)
    given = parser.parse_args(argv)
    if given.smoke:
        given.channels, given.size, given.frames, given.batch = 32, 64, 4, 1
    return given


def main(argv: Sequence[str] | None = None) -> None:
    given = arguments(argv)
    if given.worker is not None:
        print(json.dumps({"bytes": grown_in_training(given.worker, given)}))
        return
    where = machine()
    with tempfile.TemporaryDirectory() as folder:
        given.folder = Path(folder)
        prepare(given)
        rows = []
        for name in given.runs:
            print(f"measuring: {name}", file=sys.stderr)
            moment, computed = planned(name, given)
            measured = grown_in_training(name, given) if given.smoke else in_process_of_its_own(name, given)
            print(f"{name}: computed {computed >> 20} MiB, measured {measured >> 20} MiB", file=sys.stderr)
            rows.append((name, moment, computed / 2**20, measured / 2**20, measured / computed))
    size = f"{given.batch} clips of {given.frames} frames, {given.size}x{given.size}"
    publish(
        Report(
            name="plan",
            title="Memory of a training run, computed and measured",
            machine=where,
            settings={"device": "cpu", "reduced": f"{given.channels} channels, {size}"},
            columns=COLUMNS,
            rows=rows,
        ),
        given,
    )


def prepare(given: argparse.Namespace) -> None:
    """Write the clips and the pipeline for the runs."""
    from videocrafter.checkpoints.official.variants import official_variant
    from videocrafter.cli.quiet_libraries import silence_libraries
    from videocrafter.models.unet import VideoUNet
    from videocrafter.pipelines.text_to_video import TextToVideoPipeline
    from videocrafter.presets import resolve_model

    silence_libraries()
    (given.folder / "clips").mkdir()
    sizes = argparse.Namespace(clips=8, seconds=4, height=given.size, size=0)
    make_clips(given.folder / "clips", sizes)
    paper = official_variant("t2v-256")
    assert paper is not None
    pipeline = TextToVideoPipeline.from_pretrained(resolve_model("tiny-t2v", "t2v"))
    own = {"in_channels": 16, "out_channels": 16, "context_dim": 128, "head_dim": 32}
    unet = VideoUNet(**{**paper.unet, **own, "model_channels": given.channels})
    pipeline.register_modules(unet=unet)
    pipeline.save_pretrained(given.folder / "start")


def configured(name: str, given: argparse.Namespace) -> RecipeConfig:
    """Return a run's recipe with one stage of a few steps."""
    from dataclasses import replace

    from videocrafter.training.recipes.by_name import RECIPES
    from videocrafter.training.recipes.overrides import apply_overrides

    recipe_name, settings = RUNS[name]
    is_clips = recipe_name != "tiny-t2v"
    recipe = RECIPES[recipe_name if is_clips or not given.smoke else "smoke"]()
    stage = next((stage for stage in recipe.stages if stage.name == "high"), recipe.stages[0])
    recipe = replace(recipe, stages=(stage,))
    changes = [f"stages.*.{setting}" for setting in (*QUIET, *settings)]
    if is_clips:
        changes += [
            f"init={'tiny-t2v' if given.toy else given.folder / 'start'}",
            f"stages.*.task.data.sources=folder:{given.folder / 'clips'}",
            f"stages.*.task.data.batch_size={given.batch}",
            "stages.*.task.data.num_workers=0",
            f"stages.*.task.data.cutting.height={given.size}",
            f"stages.*.task.data.cutting.width={given.size}",
            f"stages.*.task.data.cutting.sampling.lengths={given.frames}",
        ]
    return apply_overrides(recipe, changes)


def planned(name: str, given: argparse.Namespace) -> tuple[str, int]:
    """Return the phase of the computed peak, and its bytes."""
    from videocrafter.training.planning.plan import Machine, Planner

    plan = Planner().plan(configured(name, given), Machine(kind="cpu", memory=2**40))
    peak = plan.stages[0].memory.peak
    return peak.name, peak.total


def in_process_of_its_own(name: str, given: argparse.Namespace) -> int:
    """Call `grown_in_training` in a new process."""
    sizes = {"channels": given.channels, "size": given.size, "frames": given.frames, "batch": given.batch}
    command = [sys.executable, "-m", "benchmarks.plan", "--worker", name, "--folder", str(given.folder)]
    command += [part for key, value in sizes.items() for part in (f"--{key}", str(value))]
    # Return freed memory to the system at once, so that resident memory is memory in use.
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
    return int(json.loads(done.stdout.strip().splitlines()[-1])["bytes"])


def grown_in_training(name: str, given: argparse.Namespace) -> int:
    """Train, and return the growth of this process's memory in bytes.

    A toy run first loads all libraries and fills their caches. Pages of mapped weight files are not counted.
    """
    from videocrafter.cli.quiet_libraries import silence_libraries
    from videocrafter.training.loop import StageLoop
    from videocrafter.training.run import train

    silence_libraries()
    toy = argparse.Namespace(**{**vars(given), "smoke": True, "toy": True, "size": 64, "frames": 4, "batch": 1})
    train(configured(name, toy), given.folder / f"toy, {name}", device="cpu", plain=True, track=("none",))
    before, mapped_before, mapped = forget_peak(), status("RssFile"), []
    save = StageLoop.save

    def noting(loop: StageLoop) -> None:
        mapped.append(status("RssFile"))
        save(loop)

    with mock.patch.object(StageLoop, "save", noting):
        train(configured(name, given), given.folder / f"run, {name}", device="cpu", plain=True, track=("none",))
    return status("VmHWM") - before - (mapped[-1] - mapped_before)


if __name__ == "__main__":
    main()
