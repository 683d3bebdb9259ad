"""Measure the peak memory of loading and of generation in fresh processes, next to the computed need (Linux).

    python -m benchmarks.generation_memory
    python -m benchmarks.generation_memory --model DIR --dtype bfloat16 --sizes 16x256x256

Without `--model`, a network with the layers of T2V-512, a quarter of its width and random weights is used.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from typing_extensions import Self

from benchmarks.process_memory import forget_peak, status
from benchmarks.report import Report, add_output_arguments, machine, publish

COLUMNS = ("what", "frames x height x width", "measured MiB", "computed MiB", "ratio", "whole process MiB")
SIZES = ("8x128x128", "16x128x128", "32x128x128", "16x64x64", "16x128x256")
SMOKE = ("4x64x64",)
_MIB = 2**20
_SAMPLE_S = 0.002


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="benchmarks.generation_memory",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--model", type=Path, metavar="DIR", help="pipeline folder; default: a random one")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32", help="(%(default)s)")
    parser.add_argument("--sizes", nargs="+", default=SIZES, metavar="FxHxW", help="frames, height and width")
    parser.add_argument("--guidance", type=float, default=7.5, help="guidance scale (%(default)s)")
    parser.add_argument("--low-memory", action="store_true", help="save memory in exact ways")
    parser.add_argument("--smoke", action="store_true", help="toy sizes, to check that the script runs")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    add_output_arguments(parser)
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    given = arguments(argv)
    if given.worker is not None:
        print(json.dumps(WORKERS[given.worker.partition(":")[0]](given)))
        return
    where = machine()
    sizes = SMOKE if given.smoke else given.sizes
    with tempfile.TemporaryDirectory() as folder:
        model = given.model or save_random_model(Path(folder), given)
        measured = {
            name: _in_fresh_process(name, model, given) for name in ("load", *(f"run:{one}" for one in sizes))
        }
    rows = [("loading", "", *_cells(measured["load"]))]
    rows += [("generation, without weights", one, *_cells(measured[f"run:{one}"])) for one in sizes]
    settings = {name: getattr(given, name) for name in ("dtype", "guidance", "low_memory", "smoke")}
    report = Report(
        name="generation_memory",
        title="Peak memory of loading and generation",
        settings=settings | {"model": "random" if given.model is None else given.model.name},
        columns=COLUMNS,
        rows=rows,
        machine=where,
        notes=slopes({one: measured[f"run:{one}"]["measured"] for one in sizes}),
    )
    publish(report, given)


def slopes(measured: Mapping[str, int]) -> list[str]:
    """Return sentences about the growth with frames and with pixels, for sizes that differ in one of them only."""
    points = {tuple(map(int, size.split("x"))): value for size, value in measured.items()}
    notes = []
    for what, fixed in (("frames", slice(1, 3)), ("pixels", slice(0, 1))):
        groups: dict[tuple[int, ...], list[tuple[int, int]]] = {}
        for size, value in points.items():
            amount = size[0] if what == "frames" else size[1] * size[2]
            groups.setdefault(size[fixed], []).append((amount, value))
        for group, found in groups.items():
            ordered = sorted(found)
            if len({amount for amount, _ in ordered}) > 1:
                steps = [
                    (after - before) / (more - less) / (group[0] if what == "pixels" else group[0] * group[1])
                    for (less, before), (more, after) in itertools.pairwise(ordered)
                    if more > less
                ]
                shown = ", ".join(f"{step:.0f}" for step in steps)
                notes.append(f"bytes per pixel and frame with more {what} at {'x'.join(map(str, group))}: {shown}")
    return notes


def _cells(result: Mapping[str, int]) -> tuple[float, float, float, float]:
    measured, computed = result["measured"] / _MIB, result["computed"] / _MIB
    return measured, computed, measured / computed, result["process"] / _MIB


def _in_fresh_process(worker: str, model: Path, given: argparse.Namespace) -> dict[str, int]:
    command = [sys.executable, "-m", "benchmarks.generation_memory", "--worker", worker, "--model", str(model)]
    command += ["--dtype", given.dtype, "--guidance", str(given.guidance)]
    command += ["--low-memory"] if given.low_memory else []
    # Return freed memory to the system at once, so that resident memory is memory in use.
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
    result: dict[str, int] = json.loads(done.stdout.strip().splitlines()[-1])
    return result


def save_random_model(folder: Path, given: argparse.Namespace) -> Path:
    """Save a text-to-video pipeline in float32, with the structure of T2V-512, and return its folder."""
    import torch
    from diffusers import AutoencoderKL, DDIMScheduler

    from videocrafter.models.text_encoder import tiny_text_encoder
    from videocrafter.models.tokenizer import build_word_tokenizer
    from videocrafter.models.unet import VideoUNet
    from videocrafter.pipelines.text_to_video import TextToVideoPipeline

    torch.manual_seed(0)
    width = 16 if given.smoke else 80
    tokenizer = build_word_tokenizer(["a boat on a lake"], max_length=12)
    pipeline = TextToVideoPipeline(
        tokenizer=tokenizer,
        text_encoder=tiny_text_encoder(len(tokenizer), hidden=width, layers=1, heads=2, max_length=12),
        scheduler=DDIMScheduler(clip_sample=False),
        vae=AutoencoderKL(
            block_out_channels=(width // 2, width, width, width),
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            norm_num_groups=8,
        ),
        unet=VideoUNet(
            model_channels=width, head_dim=16, context_dim=width, norm_groups=8, initial_temporal_heads=8,
            fps_condition=False,
        ),
        defaults={"num_frames": 32, "height": 128, "width": 128, "fps": 8.0, "num_inference_steps": 1},
        knowledge=None,
    )  # fmt: skip
    pipeline.save_pretrained(folder / "model")
    return folder / "model"


def _load(given: argparse.Namespace) -> dict[str, int]:
    """Load in the given precision; every anonymous byte above the weights themselves is a copy.

    Pages of the mapped files are not counted, because the system takes them back at once if it needs memory.
    """
    _load_pipeline(given, warm_up=True)
    forget_peak()
    before = status("RssAnon")
    with PeakOfAnonymousMemory() as peak:
        pipeline = _load_pipeline(given)
    networks = [part for part in pipeline.components.values() if hasattr(part, "parameters")]
    weights = sum(one.nbytes for network in networks for one in network.parameters())
    return {"measured": peak.bytes - before, "computed": weights, "process": status("VmHWM")}


def _generate(given: argparse.Namespace) -> dict[str, int]:
    import torch

    from videocrafter.pipelines.generation_memory import Parameters, Workload, memory_need, with_defaults
    from videocrafter.pipelines.memory_settings import MemorySettings

    frames, height, width = map(int, given.worker.partition(":")[2].split("x"))
    pipeline = _load_pipeline(given)
    pipeline.set_progress_bar_config(disable=True)
    saving = MemorySettings()
    if given.low_memory:
        saving = MemorySettings(frames_at_once=1, branches_apart=True, offload="encoders")
    pipeline.save_memory(saving)

    def run(frames: int, height: int, width: int) -> None:
        pipeline(
            "a boat on a lake",
            num_frames=frames,
            height=height,
            width=width,
            num_inference_steps=1,
            guidance_scale=given.guidance,
            seeds=0,
            output_type="uint8",
        )

    smallest = pipeline.size_multiple
    run(2, smallest, smallest)  # loads what is imported late, and fills caches
    before = forget_peak()
    run(frames, height, width)
    peak = status("VmHWM")
    workload = Workload(
        num_videos=1,
        branches=2 if given.guidance > 1 else 1,
        num_frames=frames,
        height=height,
        width=width,
        element_bytes=torch.empty(0, dtype=pipeline.unet.dtype).element_size(),
        saving=saving,
    )
    no_weights = Parameters(denoiser=0, others=0, largest=0)
    need = memory_need(
        with_defaults("unet", pipeline.unet.config), with_defaults("vae", pipeline.vae.config), no_weights, workload
    )
    return {"measured": peak - before, "computed": need.total, "process": peak}


def _load_pipeline(given: argparse.Namespace, *, warm_up: bool = False) -> Any:
    from videocrafter.pipelines.loading import load_pipeline
    from videocrafter.presets import PRESETS

    folder = PRESETS["tiny-t2v"].folder if warm_up else given.model
    return load_pipeline(folder, dtype=given.dtype)


class PeakOfAnonymousMemory:
    """Samples this process's anonymous memory in a thread; `bytes` is the largest sample."""

    def __init__(self) -> None:
        self.bytes = 0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _sample(self) -> None:
        while True:
            self.bytes = max(self.bytes, status("RssAnon"))
            if self._done.wait(_SAMPLE_S):
                self.bytes = max(self.bytes, status("RssAnon"))
                return


WORKERS = {"load": _load, "run": _generate}


if __name__ == "__main__":
    main()
