"""Measure time and peak memory of a full-size VideoCrafter1 checkpoint: conversion, sampling and training.

    python -m benchmarks.full_size
    python -m benchmarks.full_size --variant i2v_512_v1 --steps 1 --guidance 1
    python -m benchmarks.full_size --phases lora finetune --height 256 --width 256

The weights are random, which affects neither time nor memory. A file with every key of the official checkpoint is
written in bfloat16 and converted; then its pipeline is sampled, or `videocrafter train` trains it with batches of one
clip and without EMA. Every phase runs in its own process, so that peaks are separate. A training phase is a whole run
including its checkpoint and final folder, but its seconds are those of the last step. Needs about 15 GB of disk, or
40 GB for full fine-tuning.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.report import Report, add_output_arguments, machine, positive, publish

COLUMNS = ("phase", "seconds", "peak GiB", "anonymous memory at the end, GiB")
VARIANTS = ("t2v_512_v1", "t2v_512_v1_early", "t2v_1024_v1", "t2v_512_v2", "i2v_512_v1")
# Settings of a recipe's stage. All weights and moments in full precision would not fit in 24 GiB.
TRAINING: dict[str, dict[str, object]] = {"lora": {}, "finetune": {"optimizer.state_dtype": "bf16"}}


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="benchmarks.full_size", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--variant", choices=VARIANTS, default="t2v_512_v1")
    parser.add_argument("--steps", type=positive, default=1, help="denoising steps")
    parser.add_argument(
        "--training-steps", type=positive, default=2, help="training steps, of which the last is timed (%(default)s)"
    )
    parser.add_argument(
        "--precision", choices=("bf16", "fp32"), default="bf16", help="precision of training (%(default)s)"
    )
    parser.add_argument("--guidance", type=float, default=1.0, help="guidance scale; above 1, a step has two passes")
    parser.add_argument("--frames", type=int, default=16)
    parser.add_argument("--height", type=int, default=320)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--folder", type=Path, help="folder for temporary files; default: the system's")
    parser.add_argument(
        "--phases",
        nargs="+",
        choices=("denoise", *TRAINING),
        default=["denoise"],
        help="what to measure besides writing and converting",
    )
    parser.add_argument("--phase", choices=tuple(PHASES), help=argparse.SUPPRESS)
    add_output_arguments(parser)
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    given = arguments(argv)
    if given.phase is not None:
        print(json.dumps(PHASES[given.phase](given)))
        return
    where = machine()
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        phases = ["write", "convert", *given.phases]
        rows = [(phase, *_in_process_of_its_own(phase, argv, Path(folder))) for phase in phases]
    settings = {"weights": "random, bfloat16", "variant": given.variant, "frames": given.frames}
    settings |= {"size": f"{given.width}x{given.height}"}
    if "denoise" in given.phases:
        settings |= {"steps": given.steps, "guidance": given.guidance}
    if set(TRAINING) & set(given.phases):
        settings |= {"training steps": given.training_steps, "precision": given.precision}
    title = "A full-size checkpoint: written, converted, used"
    publish(
        Report(name="full_size", title=title, machine=where, settings=settings, columns=COLUMNS, rows=rows), given
    )


def _in_process_of_its_own(phase: str, argv: Sequence[str] | None, folder: Path) -> tuple[float, float, float]:
    command = [sys.executable, "-m", "benchmarks.full_size", *(sys.argv[1:] if argv is None else argv)]
    done = subprocess.run(
        [*command, "--phase", phase, "--folder", str(folder)], check=True, stdout=subprocess.PIPE, text=True
    )
    answer: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return answer["seconds"], answer["peak"], answer["private"]


def _write(given: argparse.Namespace) -> dict[str, float]:
    import gzip

    import torch

    listed = Path(__file__).parents[1] / "tests" / "golden" / "data" / "official_keys.json.gz"
    keys = json.loads(gzip.decompress(listed.read_bytes()))[given.variant]
    started = time.perf_counter()
    torch.manual_seed(0)
    from videocrafter.checkpoints.official.official_model import SIGNAL_SCALE_KEY, official_model_from_shapes
    from videocrafter.checkpoints.official.schedule_buffers import schedule_buffers

    shapes = {key: tuple(shape) for key, (shape, _) in keys.items()}
    scale = {"t2v_512_v1": None, "t2v_1024_v1": 0.3}.get(given.variant, 0.7)
    scales = None
    if SIGNAL_SCALE_KEY in shapes:
        from videocrafter.diffusion.schedule import signal_scale

        assert scale is not None
        length = shapes[SIGNAL_SCALE_KEY][0]
        scales = torch.nn.functional.pad(signal_scale(scale), (0, length - 1000), value=scale).float()
    buffers = schedule_buffers(official_model_from_shapes(shapes, scales))
    tensors = {}
    for key, shape in shapes.items():
        fan_in = max(1, int(torch.tensor(shape[1:]).prod())) if len(shape) > 1 else 1
        drawn = torch.randn(shape, dtype=torch.bfloat16) / fan_in**0.5 if len(shape) > 1 else None
        plain = torch.ones(shape) if key.endswith("weight") else torch.zeros(shape)
        tensors[key] = buffers[key] if key in buffers else (plain.bfloat16() if drawn is None else drawn)
    torch.save({"state_dict": tensors}, given.folder / "model.ckpt")
    return _measured(started)


def _convert(given: argparse.Namespace) -> dict[str, float]:
    from videocrafter.checkpoints.official.to_folder import convert_to_folder

    started = time.perf_counter()
    convert_to_folder(given.folder / "model.ckpt", given.folder / "converted")
    return _measured(started)


def _denoise(given: argparse.Namespace) -> dict[str, float]:
    import torch

    from videocrafter.pipelines.loading import load_pipeline

    pipeline = load_pipeline(given.folder / "converted", dtype=torch.bfloat16)
    pipeline.set_progress_bar_config(disable=True)
    image = [torch.zeros(3, given.height, given.width)] if given.variant.startswith("i2v") else []
    started = time.perf_counter()
    pipeline(
        *image,
        "a boat on a lake",
        num_frames=given.frames,
        height=given.height,
        width=given.width,
        num_inference_steps=given.steps,
        guidance_scale=given.guidance,
        seeds=0,
        output_type="latent",
    )
    return _measured(started)


def _train(recipe: str, given: argparse.Namespace) -> dict[str, float]:
    """Run a recipe for a few steps through its command."""
    from benchmarks.data_loading import make_clips
    from videocrafter.cli.main import app

    clips, run = given.folder / "clips", given.folder / recipe
    if not clips.is_dir():
        clips.mkdir()
        make_clips(clips, argparse.Namespace(height=360, clips=2, seconds=4, size=given.height))
    stage = [f"{name}={value}" for name, value in training_settings(recipe, given).items()]
    options = [option for setting in stage for option in ("--set", f"stages.*.{setting}")]
    start = ["--init", str(given.folder / "converted"), "--data", f"folder:{clips}"]
    started = time.perf_counter()
    command = ["train", recipe, *start, *options, "--output", str(run), "--plain", "--track", "none"]
    if status := app(command, standalone_mode=False):
        raise SystemExit(status)
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    done = [0.0, *(line["seconds"] for line in lines if line["kind"] == "train")]
    shutil.rmtree(run)
    return _measured(started) | {"seconds": done[-1] - done[-2]}


def training_settings(recipe: str, given: argparse.Namespace) -> dict[str, object]:
    """Return the settings that a training phase changes in its recipe's stage."""
    return {
        "num_steps": given.training_steps,
        "log_every": 1,
        "sample_every": 0,
        "validate_every": 0,
        "precision": given.precision,
        "optimizer.accumulate": 1,
        "ema_decay": 0,
        "task.frames_like_start": "false",
        "task.data.cutting.sampling.lengths": given.frames,
        "task.data.cutting.height": given.height,
        "task.data.cutting.width": given.width,
        "task.data.num_workers": 1,
        **TRAINING[recipe],
    }


def _measured(started: float) -> dict[str, float]:
    """Return the seconds, and from /proc the peak resident set and the present anonymous memory in GiB."""
    seconds = time.perf_counter() - started
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    status = dict(line.split(":", 1) for line in lines if line.startswith(("Vm", "Rss")))
    kib = {name: int(value.split()[0]) for name, value in status.items()}
    return {"seconds": seconds, "peak": kib["VmHWM"] / 2**20, "private": kib["RssAnon"] / 2**20}


PHASES = {"write": _write, "convert": _convert, "denoise": _denoise} | {
    recipe: partial(_train, recipe) for recipe in TRAINING
}


if __name__ == "__main__":
    main()
