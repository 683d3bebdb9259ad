"""Compare ways to spare network passes with the plain solver at as many operations.

    python -m benchmarks.fewer_passes
    python -m benchmarks.fewer_passes --prompts 240

The questions and seeds are those of the exam's first part. Every variant is measured by its operations (in guided
steps of the plain solver), by the distance of its latents from those of many plain steps with the same seeds, and by
the share of videos in which the exam's judge sees subject, motion and scene as asked. The distance tells nothing about
guidance intervals, which aim at another video on purpose. The feature cache (DeepCache, arXiv 2312.00858) is written
here, not in the package, because it did not pay: see docs/decisions.md.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
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
    """Settings of a run, and the outer layers that a cached pass computes (None: no cache), every how many steps."""

    name: str
    steps: int
    settings: dict[str, Any] = field(default_factory=dict)
    cached_layers: int | None = None
    every: int = 1


PLAIN = tuple(Variant(name="plain", steps=steps) for steps in (6, 8, 10, 12, 16, 25))
OTHERS = (
    Variant(name="guidance in the first half of the steps", steps=16, settings={"guidance_interval": (0, 0.5)}),
    Variant(name="guidance below a log SNR of 0", steps=16, settings={"guidance_log_snr": (-20, 0)}),
    Variant(name="cache, 1 outer layer, every 2", steps=12, cached_layers=1, every=2),
    Variant(name="cache, 2 outer layers, every 2", steps=12, cached_layers=2, every=2),
    Variant(name="cache, 1 outer layer, every 2", steps=16, cached_layers=1, every=2),
    Variant(name="cache, 2 outer layers, every 2", steps=16, cached_layers=2, every=2),
    Variant(name="cache, 1 outer layer, every 3", steps=25, cached_layers=1, every=3),
    Variant(name="cache, 2 outer layers, every 2", steps=25, cached_layers=2, every=2),
)


def main(argv: Sequence[str] | None = None) -> None:
    given = arguments(argv)
    where = machine()
    import torch

    from videocrafter.evaluation.exam.questions import ExamWorld, Questions
    from videocrafter.pipelines.loading import load_pipeline

    pipeline: Any = load_pipeline("tiny")
    pipeline.set_progress_bar_config(disable=True)
    pipeline.use_scheduler(given.scheduler)
    variants = (*PLAIN, *OTHERS)
    if given.smoke:
        given.prompts, given.reference = 1, 3
        variants = (Variant(name="plain", steps=2), Variant(name="cache", steps=3, cached_layers=1, every=2))
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
        unet = None
        if variant.cached_layers is not None:
            unet = CachedFeatures(pipeline.unet, variant.cached_layers, full_steps(variant.steps, variant.every))
        with FlopCounterMode(display=False) as counter:
            noise = steps.start(pipeline.prepare_latents(request))
            parts.append(pipeline.denoise(encoded, steps, noise, unet=unet))
        flops += counter.get_total_flops()
    return torch.cat(parts), flops


def correct(pipeline: Any, latents: Tensor, questions: Sequence[Any]) -> tuple[bool, ...]:
    """Return for each video whether the judge sees subject, motion and scene as asked."""
    from videocrafter.evaluation.exam.judging import judge_videos, load_judge, mark

    videos = pipeline.decode_latents(latents).float().clamp(-1, 1)
    return mark(judge_videos(load_judge(), videos), [question.script for question in questions]).all


def full_steps(steps: int, every: int, first: float = 0.2, last: float = 0.15) -> frozenset[int]:
    """Return the steps that run the whole network: the first and last ones, and every few in between."""
    begin, end = max(1, round(first * steps)), steps - round(last * steps)
    between = range(begin - 1, end, every)
    return frozenset({*range(begin), *between, *range(end, steps)})


class CachedFeatures:
    """Same call as `VideoUNet`; outside the full steps it computes outer layers only, on features of the last one.

    A step is recognised by its timestep, and a call within it by its number, its rows and whether it runs temporal
    layers. A call that has no features yet runs the whole network.
    """

    def __init__(self, unet: Any, layers: int, full: frozenset[int]) -> None:
        self.unet = unet
        self.layers = layers
        self.full = full
        self._features: dict[tuple[int, int, bool], Tensor] = {}
        self._step, self._call, self._timestep = -1, 0, None

    def __call__(
        self,
        sample: Tensor,
        timestep: Tensor,
        text: Tensor,
        fps: Tensor | None = None,
        image: Tensor | None = None,
        image_scale: float = 1.0,
        temporal: bool = True,
    ) -> Tensor:
        """Predict as `VideoUNet.forward`, for as many texts as clips."""
        if self._timestep is None or float(timestep[0]) != self._timestep:
            self._step, self._call, self._timestep = self._step + 1, 0, float(timestep[0])
        key = (self._call, len(text), temporal)
        self._call += 1
        join = self.unet.up_stages[-1].layers[-self.layers]
        if self._step in self.full or key not in self._features:
            keep: Callable[..., None] = lambda _, given: self._features.update({key: given[0]})  # noqa: E731
            hook = join.register_forward_pre_hook(keep)
            try:
                return self.unet(sample, timestep, text, fps, image, image_scale, temporal)
            finally:
                hook.remove()
        return self._outer_layers(sample, timestep, text, fps, image, image_scale, temporal, self._features[key])

    def _outer_layers(
        self,
        sample: Tensor,
        timestep: Tensor,
        text: Tensor,
        fps: Tensor | None,
        image: Tensor | None,
        image_scale: float,
        temporal: bool,
        features: Tensor,
    ) -> Tensor:
        import torch

        from videocrafter.models.blocks import BlockConditions

        unet, frames = self.unet, sample.shape[2]
        embedding = unet.embed(timestep, fps, text, frames, temporal, sample.dtype)
        conditions = BlockConditions(embedding, text, image, image_scale, frames, temporal)
        x = unet.conv_in(sample.transpose(1, 2).flatten(0, 1).contiguous(memory_format=torch.channels_last))
        if unet.place_embedding is not None:
            x = unet.place_embedding(x, embedding)
        if unet.temporal_in is not None and temporal:
            x = unet.temporal_in(x, frames)
        skips = [x]
        for layer in unet.down_stages[0].layers[: self.layers - 1]:
            skips.append(layer(skips[-1], conditions))
        x = features
        for layer, skip in zip(unet.up_stages[-1].layers[-self.layers :], reversed(skips), strict=True):
            x = layer(x, conditions, skip)
        out = unet.conv_out(torch.nn.functional.silu(unet.norm_out(x)))
        return out.unflatten(0, (-1, frames)).transpose(1, 2)


if __name__ == "__main__":
    main()
