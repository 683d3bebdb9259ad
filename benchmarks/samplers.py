"""Compare the videos of every sampler, named and stock, with those of many small steps.

    python -m benchmarks.samplers
    python -m benchmarks.samplers --steps 8 25

Each cell shows the mean difference from the reference in levels of 0 to 255, and the roughness (variance of the
Laplacian) relative to the reference. A sampler that fails leaves noise: a large difference and a roughness far above
1. Samplers that add noise of their own make other videos, so only their roughness counts.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from benchmarks.report import Report, add_output_arguments, machine, positive, publish

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

PROMPTS = ("a panda moving left on a green meadow", "a rocket flying up in a blue sky", "an apple on a pink wall")
REFERENCE, REFERENCE_STEPS = "dpm++2m", 100
STOCK = (
    "DDIMScheduler",
    "DDIMParallelScheduler",
    "DDPMScheduler",
    "DDPMParallelScheduler",
    "DEISMultistepScheduler",
    "DPMSolverMultistepScheduler",
    "DPMSolverSinglestepScheduler",
    "EulerAncestralDiscreteScheduler",
    "EulerDiscreteScheduler",
    "HeunDiscreteScheduler",
    "KDPM2AncestralDiscreteScheduler",
    "KDPM2DiscreteScheduler",
    "LCMScheduler",
    "PNDMScheduler",
    "SASolverScheduler",
    "TCDScheduler",
    "UniPCMultistepScheduler",
)


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="benchmarks.samplers", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="tiny-t2v", help="name of a text-to-video model (%(default)s)")
    parser.add_argument("--steps", type=positive, nargs="+", default=[4, 8, 12, 25, 50], help="(%(default)s)")
    parser.add_argument("--smoke", action="store_true", help="two samplers with few steps")
    add_output_arguments(parser)
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    given = arguments(argv)
    where = machine()
    import diffusers

    from videocrafter.diffusion.schedulers import SCHEDULERS
    from videocrafter.pipelines.loading import load_pipeline
    from videocrafter.presets import resolve_model

    pipeline: Any = load_pipeline(resolve_model(given.model, "t2v"))
    pipeline.set_progress_bar_config(disable=True)
    config = pipeline.scheduler.config
    samplers: dict[str, Any] = dict.fromkeys(SCHEDULERS)
    samplers |= {name: getattr(diffusers, name).from_config(config) for name in STOCK}
    if given.smoke:
        samplers, given.steps = {name: samplers[name] for name in ("euler", "DDIMScheduler")}, [2]
    pipeline.use_scheduler(REFERENCE)
    reference = _videos(pipeline, 5 if given.smoke else REFERENCE_STEPS)
    rows = []
    for name, scheduler in samplers.items():
        if scheduler is None:
            pipeline.use_scheduler(name)
        else:
            pipeline.scheduler = scheduler
        rows.append((name, *(_cell(pipeline, steps, reference) for steps in given.steps)))
    report = Report(
        name="samplers",
        title="Samplers",
        settings={
            "model": given.model,
            "prompts": len(PROMPTS),
            "reference": f"{REFERENCE} in {REFERENCE_STEPS} steps",
        },
        columns=("sampler", *(f"{steps} steps" for steps in given.steps)),
        rows=rows,
        machine=where,
    )
    publish(report, given)


def _cell(pipeline: Any, steps: int, reference: NDArray[np.float32]) -> str:
    """The difference and the roughness, or why there are none."""
    try:
        videos = _videos(pipeline, steps)
    except (ValueError, FloatingPointError) as error:
        return f"refused: {str(error).split(';')[0]}"
    return f"{abs(videos - reference).mean():.1f} / {_roughness(videos) / _roughness(reference):.2f}"


def _videos(pipeline: Any, steps: int) -> NDArray[np.float32]:
    made = pipeline(list(PROMPTS), seeds=list(range(len(PROMPTS))), num_inference_steps=steps, output_type="uint8")
    frames: NDArray[np.float32] = made.frames.astype("float32")
    return frames


def _roughness(videos: NDArray[np.float32]) -> float:
    inner = videos[:, :, 1:-1, 1:-1]
    across = videos[:, :, 1:-1, :-2] + videos[:, :, 1:-1, 2:]
    along = videos[:, :, :-2, 1:-1] + videos[:, :, 2:, 1:-1]
    return float((across + along - 4 * inner).var())


if __name__ == "__main__":
    main()
