"""Notes about unusual settings of a request."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from videocrafter.diffusion.few_steps import FewStepScheduler
from videocrafter.models.tokenizer import unknown_words
from videocrafter.pipelines.knowledge import prompt_notes
from videocrafter.pipelines.prompt_length import length_note
from videocrafter.pipelines.settings import VideoRequest


def request_notes(pipeline: Any, request: VideoRequest) -> list[str]:
    """Return notes for the user, one line each: about prompts, frames, fps, size, and a student's steps."""
    defaults, knowledge = pipeline.generation_defaults, pipeline.knowledge
    notes: list[str] = []
    prompts = dict.fromkeys(request.prompts if request.prompt_embeds is None else ())
    for prompt in prompts:
        words = unknown_words(pipeline.tokenizer, prompt) if knowledge.subjects else []
        vocabulary = pipeline.tokenizer.get_vocab() if words else ()
        about = prompt_notes(prompt, knowledge, words, vocabulary, needs_subject=not pipeline.takes_image)
        about += _length_notes(pipeline, [prompt])
        notes += [f"{prompt!r}: {note}" for note in about] if len(prompts) > 1 else about
    if request.sampling.needs_unconditional:
        notes += _length_notes(pipeline, request.negative_prompts, "negative prompt")
    if request.num_frames not in (1, defaults.num_frames):
        notes.append(
            f"the model was trained on {defaults.num_frames} frames; quality may be lower at {request.num_frames}"
        )
    if defaults.fps_range is not None:
        lowest, highest = defaults.fps_range
        outside = sorted({value for value in request.fps if not lowest <= value <= highest})
        if outside:
            speeds = ", ".join(f"{value:g}" for value in outside)
            notes.append(f"the model was trained on fps {lowest:g} to {highest:g}; {speeds} is outside that")
    if (request.height, request.width) != (defaults.height, defaults.width):
        notes.append(
            f"the model was trained on {defaults.width}x{defaults.height};"
            f" quality may be lower at {request.width}x{request.height}"
        )
    if defaults.step_counts is not None:
        notes += _distilled_notes(pipeline, request, defaults.step_counts)
    return list(dict.fromkeys(notes))


def _distilled_notes(pipeline: Any, request: VideoRequest, step_counts: Sequence[int]) -> list[str]:
    """Notes about a request that a student was not distilled for."""
    sampling, notes = request.sampling, []
    if sampling.num_inference_steps not in step_counts:
        trained = " or ".join(map(str, step_counts))
        notes.append(
            f"the model was distilled for {trained} steps; quality is lower at"
            f" {sampling.num_inference_steps}, even if that is more"
        )
    if sampling.needs_unconditional or sampling.temporal_guidance_scale > 0:
        notes.append(
            "the model was distilled with guidance in it; more guidance over-saturates colours and doubles the time:"
            " leave guidance_scale at 1"
        )
    if not isinstance(pipeline.scheduler, FewStepScheduler):
        notes.append(
            "the model was distilled for its own timesteps; quality is lower with another sampler than few-step"
        )
    return notes


def _length_notes(pipeline: Any, prompts: Sequence[str], what: str = "prompt") -> list[str]:
    found = [
        length_note(pipeline.tokenizer, pipeline.text_encoder, prompt, what) for prompt in dict.fromkeys(prompts)
    ]
    return [note for note in found if note is not None]
