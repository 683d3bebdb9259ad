"""Measure training on clips without a cache of latents and text, while it is filled, and with a full cache.

    python -m benchmarks.clip_cache
    python -m benchmarks.clip_cache --model t2v-512 --height 320 --width 512 --frames 16 --device cuda

Every turn trains on the same generated H.264 clips: decode or read them, encode them if needed, compute loss and
gradients. There is no optimizer step, because a cache does not affect it.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from benchmarks.data_loading import make_clips
from benchmarks.report import Report, add_report_arguments, available_cores, machine, positive, publish
from benchmarks.turns import COLUMNS, Readings, compare, take_turns, torch_threads

if TYPE_CHECKING:
    from videocrafter.training.video.task_config import ClipDiffusionTaskConfig

BATCH = 2
BATCHES_BEFORE = 2


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="benchmarks.clip_cache", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="tiny-t2v", help="pipeline folder, or a model's name (%(default)s)")
    parser.add_argument("--clips", type=positive, default=48, help="number of clips (%(default)s)")
    parser.add_argument("--samples", type=positive, default=32, help="samples per turn (%(default)s)")
    parser.add_argument("--seconds", type=positive, default=4, help="length of a clip in seconds (%(default)s)")
    parser.add_argument("--height", type=positive, default=128, help="size of a sample (%(default)s)")
    parser.add_argument("--width", type=positive, default=128, help="size of a sample (%(default)s)")
    parser.add_argument("--frames", type=positive, default=16, help="frames of a sample (%(default)s)")
    parser.add_argument("--workers", type=positive, default=available_cores(), help="default: as many as cores")
    parser.add_argument("--threads", type=positive, default=1, help="threads of the training process (%(default)s)")
    parser.add_argument("--device", default="cpu", help="training device (%(default)s)")
    add_report_arguments(parser, repeats=5)
    given = parser.parse_args(argv)
    if given.clips < given.samples + BATCH * BATCHES_BEFORE:
        parser.error(f"{given.clips} clips are too few for {given.samples} different samples; pass more --clips")
    return given


def main(argv: Sequence[str] | None = None) -> None:
    given = arguments(argv)
    where = machine()
    if given.smoke:
        given.clips, given.samples, given.seconds, given.workers = 8, 4, 1, 1
    with tempfile.TemporaryDirectory() as folder:
        given.folder = Path(folder)
        (given.folder / "clips").mkdir()
        size = argparse.Namespace(clips=given.clips, seconds=given.seconds, height=2 * given.height, size=0)
        make_clips(given.folder / "clips", size)
        without = partial(samples_per_second, given, "without")
        with torch_threads(given.threads):
            fill(given)
            turns = take_turns(
                {
                    "no cache": without,
                    "filling": partial(samples_per_second, given, "filling"),
                    "cached": partial(samples_per_second, given, "cached"),
                    "no cache again": without,
                },
                given.repeats,
            )
    publish(
        Report(
            name="clip_cache",
            title="Training on clips with a cache",
            machine=where,
            settings={
                "model": given.model,
                "samples per turn": f"{given.samples} of {given.frames} frames, {given.width}x{given.height}",
                "workers": given.workers,
                "threads": given.threads,
                "device": given.device,
                "rounds": given.repeats,
            },
            columns=COLUMNS,
            rows=compare(turns, "no cache"),
            notes=["ratios are to training without a cache"],
            turns=turns,
        ),
        given,
    )


def start_of(given: argparse.Namespace) -> Path:
    """Return the folder of the model."""
    from videocrafter.checkpoints.hub.obtain import obtain_model

    return Path(given.model) if Path(given.model).is_dir() else obtain_model(given.model, "t2v")


def task_config(
    given: argparse.Namespace, folder: Path | None, fill: Literal["missing", "never"]
) -> ClipDiffusionTaskConfig:
    """Return the config for full training of the video network on one cut of each clip."""
    from videocrafter.data.clip_sampling import ClipSampling
    from videocrafter.data.cutting import CuttingConfig
    from videocrafter.data.loader_config import LoaderConfig
    from videocrafter.training.video.clip_cache.config import CacheConfig
    from videocrafter.training.video.task_config import ClipDiffusionTaskConfig

    cutting = CuttingConfig(sampling=ClipSampling(lengths=(given.frames,)), height=given.height, width=given.width)
    return ClipDiffusionTaskConfig(
        data=LoaderConfig(
            sources=(f"folder:{given.folder / 'clips'}",),
            batch_size=BATCH,
            num_workers=given.workers,
            cutting=cutting,
        ),
        cache=CacheConfig(folder=None if folder is None else str(folder), fill=fill, variants=1),
    )


def fill(given: argparse.Namespace) -> None:
    """Fill the cache for the turns that only read it."""
    from videocrafter.training.interruption import StopRequest
    from videocrafter.training.parallel.processes import Processes
    from videocrafter.training.video.clip_cache.filling import fill_cache

    config = task_config(given, given.folder / "cached", "missing")
    with StopRequest() as stop:
        fill_cache(config, start_of(given), Processes(given.device), stop, title="cache")


def samples_per_second(given: argparse.Namespace, how: Literal["without", "filling", "cached"]) -> Readings:
    """Train for some batches. Everything is built for one turn, so that no worker runs during others."""
    import torch

    from videocrafter.training.video.task import ClipDiffusionTask

    folder = {"without": None, "filling": given.folder / "filled", "cached": given.folder / "cached"}[how]
    if how == "filling":
        shutil.rmtree(folder, ignore_errors=True)  # type: ignore[arg-type]
    device = torch.device(given.device)
    config = task_config(given, folder, "never" if how == "cached" else "missing")
    task = ClipDiffusionTask.build(config, start_of(given), 0, 0, device)
    task.open_data(0, 1, given.folder)
    generator = torch.Generator(device=device).manual_seed(0)
    try:
        for step in range(BATCHES_BEFORE + given.samples // BATCH):
            if step == BATCHES_BEFORE:
                start = time.perf_counter()
            loss, _ = task.loss(task.batch(step), generator)
            torch.autograd.backward(loss)
            for parameter in task.trainable_parameters():
                parameter.grad = None
        float(loss.detach())
        seconds = time.perf_counter() - start
    finally:
        task.close_data()
    return {"samples/s": given.samples // BATCH * BATCH / seconds}


if __name__ == "__main__":
    main()
