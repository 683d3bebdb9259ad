"""Generate the videos of a protocol with a model, resumably: a finished video is never generated again."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from videocrafter.evaluation.model_identity import describe_model
from videocrafter.evaluation.prompt_list import PromptItem
from videocrafter.evaluation.protocols.protocol import Protocol
from videocrafter.generation.recorded_paths import recorded_path
from videocrafter.media.errors import MediaError, OutputExistsError
from videocrafter.media.file_hash import file_sha256
from videocrafter.media.image_file import read_image
from videocrafter.media.video_file import read_metadata, write_video

Progress = Callable[[int, int], None]
_COMPARED = {
    "prompt": "prompt",
    "seed": "seed",
    "model_sha256": "model",
    "effective_settings": "setting",
    "image_sha256": "input image",
}
"""Keys of the recording in which a finished video must agree, with their names in messages."""


@dataclass(frozen=True, kw_only=True)
class _Job:
    """One video to generate."""

    path: Path
    item: PromptItem
    seed: int
    metadata: Mapping[str, Any]


def generate_set(
    pipeline: Any,
    items: Sequence[PromptItem],
    protocol: Protocol,
    folder: Path,
    *,
    model: str,
    batch_size: int = 1,
    settings: Mapping[str, Any] | None = None,
    on_progress: Progress | None = None,
) -> dict[str, Any]:
    """Generate a video for each prompt and seed as `0000-0.mp4` (number of the prompt, seed), with its recording.

    Args:
        pipeline: a text-to-video or image-to-video pipeline.
        items: the prompts; those of an image-to-video model have images. A prompt's own seed replaces the protocol's.
        protocol: seeds and sizes.
        folder: folder of the videos. Finished videos of the same model, prompt, seed and settings are kept.
        model: name of the model, for the recordings.
        batch_size: videos per call; a video does not depend on it, up to rounding.
        settings: sampling settings that differ from the model's recommended ones, such as `num_inference_steps`.
        on_progress: called with (videos that exist, number of videos).

    Returns:
        A description of the model and its settings for the report.

    Raises:
        OutputExistsError: a file of that name is of another model or another setting.
        ValueError: an item of an image-to-video model has no image, or a setting is not allowed.
        MediaError: an image cannot be read, or a video cannot be written.
    """
    described = describe_model(pipeline)
    size = {"num_frames": protocol.num_frames, "height": protocol.height, "width": protocol.width}
    chosen = {key: value for key, value in ({**size, **(settings or {})}).items() if value is not None}
    jobs = _jobs(items, protocol, folder, model, described["weights_sha256"], chosen, described["defaults"])
    waiting = [job for job in jobs if not _is_finished(job)]
    done = len(jobs) - len(waiting)
    playback_fps = float(pipeline.generation_defaults.fps)
    takes_image = bool(getattr(pipeline, "takes_image", False))
    for start in range(0, len(waiting), batch_size):
        batch = waiting[start : start + batch_size]
        inputs = [_images(batch)] if takes_image else []
        made = pipeline(
            *inputs, [job.item.prompt for job in batch], seeds=[job.seed for job in batch], output_type="np", **chosen
        )
        for job, frames in zip(batch, made.frames, strict=True):
            write_video(job.path, frames, playback_fps, job.metadata)
        done += len(batch)
        if on_progress is not None:
            on_progress(done, len(jobs))
    return {"model": model, "settings": chosen, "seeds": list(protocol.seeds), **described}


def video_names(items: Sequence[PromptItem], protocol: Protocol) -> list[str]:
    """Return the names of the files that `generate_set` writes."""
    return [_name(number, seed) for number, item in enumerate(items) for seed in _seeds(item, protocol)]


def _name(number: int, seed: int) -> str:
    return f"{number:04d}-{seed}.mp4"


def _seeds(item: PromptItem, protocol: Protocol) -> Sequence[int]:
    return protocol.seeds if item.seed is None else (item.seed,)


def _jobs(
    items: Sequence[PromptItem],
    protocol: Protocol,
    folder: Path,
    model: str,
    sha256: str,
    settings: Mapping[str, Any],
    recommended: Mapping[str, Any],
) -> list[_Job]:
    found = []
    for number, item in enumerate(items):
        for seed in _seeds(item, protocol):
            metadata = {
                "prompt": item.prompt,
                "seed": seed,
                "model": model,
                "model_sha256": sha256,
                "settings": dict(settings),
                "effective_settings": json.loads(json.dumps({**recommended, **settings})),  # as it is read back
            }
            if item.image is not None:
                metadata |= {"image": recorded_path(item.image, folder), "image_sha256": file_sha256(item.image)}
            path = folder / _name(number, seed)
            found.append(_Job(path=path, item=item, seed=seed, metadata=metadata))
    return found


def _is_finished(job: _Job) -> bool:
    """Return whether the video exists. Raises OutputExistsError if a file of its name is something else."""
    if not job.path.exists():
        return False
    try:
        recorded = read_metadata(job.path)
    except MediaError as error:
        raise OutputExistsError(f"{error}; remove it, or choose another output folder") from error
    differing = [key for key in _COMPARED if recorded.get(key) != job.metadata.get(key)]
    if differing:
        raise OutputExistsError(
            f"{job.path} was generated with another {_COMPARED[differing[0]]}; choose another output folder, "
            "or remove its videos"
        )
    return True


def _images(batch: Sequence[_Job]) -> list[Any]:
    from PIL import Image

    found = []
    for job in batch:
        if job.item.image is None:
            raise ValueError(
                f"prompt {job.item.prompt!r} has no image, but the model needs one; pass a prompt list with the "
                "column image"
            )
        found.append(Image.fromarray(read_image(job.item.image)))
    return found
