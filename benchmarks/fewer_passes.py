"""Compare ways to spare network passes with the plain solver at as many operations.

    python -m benchmarks.fewer_passes
    python -m benchmarks.fewer_passes --prompts 240

The questions and seeds are those of the exam's first part. Every variant is measured by its operations (in guided
steps of the plain solver), by the distance of its latents from those of many plain steps with the same seeds, and by
the share of videos in which the exam's judge sees subject, motion and scene as asked. The distance does not judge
guidance intervals, which aim at another video on purpose.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from benchmarks.report import Report, add_output_arguments, machine, positive, publish

if TYPE_CHECKING:
    from torch import Tensor

COLUMNS = ("variant", "steps", "operations in guided steps", "distance", "correct, %", "better : worse than plain")
BATCH = 4


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="benchmarks.fewer_passes", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--prompts", type=positive, default=28, help="questions of the exam (%(default)s)")
    parser.add_argument("--reference", type=positive, default=50, help="plain steps of the reference (%(default)s)")
    parser.add_argument("--scheduler", help="sampler; default: the model's")
    parser.add_argument("--smoke", action="store_true", help="few prompts and steps, to check that the script runs")
    add_output_arguments(parser)
    return parser.parse_args(argv)


@dataclass(frozen=True, kw_only=True)
class Variant:
    """Settings of a run, with outer layers of the feature cache (0: no cache) and how often a step is full."""

    name: str
    steps: int
    settings: dict[str, Any] = field(default_factory=dict)
    layers: int = 0
    every: int = 1

    @property
    def cache(self) -> Any:
        """The feature cache, or None."""
        from videocrafter.pipelines.feature_cache import FeatureCache

        return FeatureCache(layers=self.layers, every=self.every) if self.layers else None


PLAIN = tuple(Variant(name="plain", steps=steps) for steps in (8, 10, 12, 16))
OTHERS = (
    Variant(name="guidance in the first half of the steps", steps=16, settings={"guidance_interval": (0, 0.5)}),
    Variant(name="guidance below a log SNR of 0", steps=16, settings={"guidance_log_snr": (-20, 0)}),
    Variant(name="cache, 1 outer layer, every 2", steps=12, layers=1, every=2),
    Variant(name="cache, 1 outer layer, every 2", steps=16, layers=1, every=2),
    Variant(name="cache, 2 outer layers, every 2", steps=16, layers=2, every=2),
    Variant(name="cache, 1 outer layer, every 3", steps=25, layers=1, every=3),
)


def main(argv: Sequence[str] | None = None) -> None:
    given = arguments(argv)
    where = machine()
    import torch

    from videocrafter.evaluation.exam.questions import ExamWorld, Questions
    from videocrafter.pipelines.loading import load_pipeline

    pipeline: Any = load_pipeline("tiny-t2v")
    pipeline.set_progress_bar_config(disable=True)
    pipeline.use_scheduler(given.scheduler)
    variants = (*PLAIN, *OTHERS)
    if given.smoke:
        given.prompts, given.reference = 1, 3
        variants = (Variant(name="plain", steps=2), Variant(name="cache", steps=9, layers=1, every=2))
    questions = Questions(ExamWorld(), 0).text(given.prompts, 8.0)
    with torch.no_grad():
        reference = latents_of(pipeline, Variant(name="plain", steps=given.reference), questions)[0]
        step = latents_of(pipeline, Variant(name="plain", steps=1), questions[:1])[1]
        measured = []
        for variant in variants:
            latents, flops = latents_of(pipeline, variant, questions)
            right = correct(pipeline, latents, questions)
            measured.append((variant, flops / len(questions) / step, distance(latents, reference), right))
            print(variant.name, variant.steps, *measured[-1][1:3], sum(right), flush=True)
    report = Report(
        name="fewer_passes",
        title="Fewer passes",
        settings={"prompts": given.prompts, "reference": given.reference, "scheduler": given.scheduler},
        columns=COLUMNS,
        rows=rows(measured),
        machine=where,
        notes=["The plain variant to compare with is the one with the next larger number of operations."],
    )
    publish(report, given)


def rows(measured: Sequence[tuple[Variant, float, float, Sequence[bool]]]) -> list[tuple[object, ...]]:
    """Return the table; variants are compared video by video with plain steps of at least as many operations."""
    plain = sorted((one for one in measured if one[0].name == "plain"), key=lambda one: one[1])
    table = []
    for variant, flops, far, right in measured:
        versus = next((one[3] for one in plain if one[1] >= flops - 0.5), None)
        pairs = None
        if variant.name != "plain" and versus is not None:
            flips = [(ours, theirs) for ours, theirs in zip(right, versus, strict=True) if ours != theirs]
            pairs = f"{sum(ours for ours, _ in flips)} : {sum(theirs for _, theirs in flips)}"
        table.append((variant.name, variant.steps, flops, far, 100 * sum(right) / len(right), pairs))
    return table


def distance(latents: Tensor, reference: Tensor) -> float:
    """Return the root mean square difference, in standard deviations of the reference."""
    return float((latents - reference).square().mean().sqrt() / reference.std())


def latents_of(pipeline: Any, variant: Variant, questions: Sequence[Any]) -> tuple[Tensor, int]:
    """Return the final latents of all questions, and the operations of sampling them."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from videocrafter.pipelines.phases import EncodedRequest

    parts, flops = [], 0
    pipeline.use_feature_cache(variant.cache)
    for first in range(0, len(questions), BATCH):
        some = questions[first : first + BATCH]
        request = pipeline.check_inputs(
            [question.prompt for question in some],
            fps=[question.script.fps for question in some],
            seeds=[question.seed for question in some],
            num_inference_steps=variant.steps,
            **variant.settings,
        )
        conditional, unconditional = pipeline.encode(request)
        encoded = EncodedRequest(request=request, conditional=conditional, unconditional=unconditional)
        steps = pipeline.sampling_steps(request)
        with FlopCounterMode(display=False) as counter:
            noise = steps.start(pipeline.prepare_latents(request))
            parts.append(pipeline.denoise(encoded, steps, noise))
        flops += counter.get_total_flops()
    return torch.cat(parts), flops


def correct(pipeline: Any, latents: Tensor, questions: Sequence[Any]) -> tuple[bool, ...]:
    """Return for each video whether the judge sees subject, motion and scene as asked."""
    from videocrafter.evaluation.exam.judging import judge_videos, load_judge, mark

    videos = pipeline.decode_latents(latents).float().clamp(-1, 1)
    return mark(judge_videos(load_judge(), videos), [question.script for question in questions]).all


if __name__ == "__main__":
    main()
