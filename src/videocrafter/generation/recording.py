"""Recordings: the settings stored in and next to every video, from which a run repeats it.

A recording is one flat JSON object. Sampling settings have the names of the fields of `SamplingSettings`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from videocrafter.generation.inputs import Inputs
from videocrafter.generation.loras import LoraChoice, parse_lora_option
from videocrafter.generation.recorded_paths import find_recorded, recorded_path
from videocrafter.generation.request import GenerateOptions, PromptRow
from videocrafter.pipelines.sampling_settings import IMAGE_SETTING_NAMES, SamplingSettings, given_settings
from videocrafter.presets import FAMILIES, PRESETS, Task, member

if TYPE_CHECKING:
    from videocrafter.generation.mode import Mode, Pipeline
    from videocrafter.pipelines.settings import VideoRequest

_NUMBER = (int, float)
_RECORDED: Mapping[str, type | tuple[type, ...]] = {
    "negative_prompt": str,
    "image_fit": str,
    "strength": _NUMBER,
    "loop": bool,
    "window": int,
    "window_overlap": int,
    "num_frames": int,
    "height": int,
    "width": int,
    "fps": _NUMBER,
    "playback_fps": _NUMBER,
    "seed": int,
    "scheduler": str,
    "spacing": str,
    "zero_terminal_snr": bool,
    "model": str,
    "dtype": str,
}
"""Options that a recording stores under their own name, with their types; sampling settings come in addition."""

_RECORDED_FILES = ("image_end", "video", "continued")


def record_of_run(
    options: GenerateOptions, pipeline: Pipeline, mode: Mode, request: VideoRequest, inputs: Inputs
) -> dict[str, Any]:
    """Return the part of the recording that all videos of a run share."""
    from videocrafter.pipelines.versions import versions

    task: Task = "i2v" if pipeline.takes_image else "t2v"
    # Not the family, which may stand for another model one day.
    model, path_of = member(options.model_name, task), partial(_path_text, options)
    recording: dict[str, Any] = {
        "task": task,
        "model": path_of(Path(model)) if not _is_model_name(model) and Path(model).exists() else model,
        "num_frames": request.num_frames,
        "height": request.height,
        "width": request.width,
        **request.sampling.to_config(),
        "image_fit": request.image_fit,
        "scheduler": options.scheduler,
        "spacing": options.spacing,
        "zero_terminal_snr": options.zero_terminal_snr,
        "loras": [f"{path_of(lora.path)}:{lora.weight:g}" for lora in options.loras],
        "scheduler_class": type(pipeline.scheduler).__name__,
        "device": str(pipeline.device),
        "dtype": str(pipeline.dtype).removeprefix("torch."),
        "versions": versions(),
    }
    if not pipeline.takes_image:
        for name in (*IMAGE_SETTING_NAMES, "image_fit"):
            del recording[name]
    if not pipeline.memory_settings.is_exact:
        recording["memory_settings"] = str(pipeline.memory_settings)
    if mode is not pipeline:
        recording |= _record_of_mode(options, mode)
    for key in _RECORDED_FILES:
        recording |= _record_of_file(key, getattr(options, key), options, inputs)
    return recording


def record_of_video(
    batch: VideoRequest, index: int, row: PromptRow, options: GenerateOptions, inputs: Inputs, playback_fps: float
) -> dict[str, Any]:
    """Return the part of the recording that belongs to one video."""
    return {
        "prompt": batch.prompts[index],
        "seed": batch.seeds[index],
        "negative_prompt": batch.negative_prompts[index],
        "fps": batch.fps[index],
        "playback_fps": playback_fps,
        **_record_of_file("image", row.image, options, inputs),
    }


def _record_of_mode(options: GenerateOptions, mode: Any) -> dict[str, Any]:
    settings = {"window": getattr(mode, "window", None), "window_overlap": getattr(mode, "overlap", None)}
    settings |= {"strength": getattr(mode, "strength", None), "loop": options.loop}
    return {key: value for key, value in settings.items() if value is not None}


def _record_of_file(key: str, path: Path | None, options: GenerateOptions, inputs: Inputs) -> dict[str, str]:
    if path is None:
        return {}
    recorded = {key: _path_text(options, path)}
    return recorded | ({f"{key}_sha256": inputs.sha256[path]} if path in inputs.sha256 else {})


def _path_text(options: GenerateOptions, path: Path) -> str:
    return recorded_path(path, options.output.parent, absolute=options.absolute_paths)


def recorded_model(recording: Mapping[str, Any]) -> str:
    """Return the name or path of a recording's model.

    Recordings used to name the family, when `tiny` stood for `tiny-t2v`.
    """
    model = str(recording["model"])
    if model != "tiny":
        return model
    return "tiny-i2v" if recording.get("task") == "i2v" else "tiny-t2v"


def _is_model_name(text: str) -> bool:
    return text in PRESETS or text in FAMILIES


def read_recording(path: Path) -> dict[str, Any]:
    """Read the recording of a video file, a folder of frames, or the JSON file next to one.

    Raises ValueError naming the file if there is none.
    """
    from videocrafter.media.video_file import read_metadata

    recording = read_metadata(path)
    if "prompt" not in recording:
        raise ValueError(f"{path} has no recording; `repeated` needs a video made by videocrafter")
    return recording


def repeat_recording(options: GenerateOptions, recording: Mapping[str, Any], source: Path) -> GenerateOptions:
    """Fill every option that was not given from a recording.

    Raises ValueError if the recording lacks the prompt, the seed or the model, has a wrong value, or names a file
    that is not found.
    """
    for key in ("prompt", "seed", "model"):
        if recording.get(key) is None:
            raise ValueError(f"{source} has no recording of videocrafter: {key!r} is missing")
    for key, value in recording.items():
        if (isinstance(value, int) and abs(value) >= 2**63) or (
            key == "loras" and not isinstance(value, list | None)
        ):
            raise ValueError(f"the recording in {source} is damaged: {key} is {str(value)[:40]}")
    changes: dict[str, Any] = {
        key: recording[key] for key in _RECORDED if getattr(options, key) is None and recording.get(key) is not None
    }
    for key, value in changes.items():
        if not isinstance(value, _RECORDED[key]):
            raise ValueError(f"the recording in {source} is damaged: {key} is {value!r}")
    changes["sampling"] = _recorded_sampling(recording, source) | dict(options.sampling)
    if not options.rows:
        changes["rows"] = (PromptRow(prompt=str(recording["prompt"]), where=str(source)),)
    if not options.loras:
        changes["loras"] = tuple(_recorded_lora(str(text), source) for text in recording.get("loras") or ())
    if options.model is None:
        changes["expected_model_hash"] = recording.get("model_hash")
        saving = recording.get("memory_settings")
        changes["expected_saving"] = saving if isinstance(saving, str) else None
        if _is_model_name(recording["model"]):
            changes["model"] = recorded_model(recording)
        else:
            changes["model"] = str(_found(recording["model"], source, "model"))
    expected = {}
    for key in ("image", *_RECORDED_FILES):
        rows_have_images = key == "image" and any(row.image is not None for row in options.rows)
        if getattr(options, key) is None and recording.get(key) and not rows_have_images:
            sha256 = recording.get(f"{key}_sha256")
            changes[key] = _found(str(recording[key]), source, key, sha256)
            if sha256 is not None:
                expected[changes[key]] = str(sha256)
    return replace(options, **changes, expected_sha256=expected)


def _found(recorded: str, source: Path, setting: str, sha256: str | None = None) -> Path:
    path = find_recorded(recorded, source.parent, sha256)
    if path is None:
        raise ValueError(
            f"{source} was made from {recorded}, which is neither near it nor in the current folder; pass it with"
            f" `{setting}`"
        )
    return path


def _recorded_lora(text: str, source: Path) -> LoraChoice:
    path, _, weight = text.rpartition(":")
    return parse_lora_option(f"{_found(path, source, 'lora')}:{weight}")


def _recorded_sampling(recording: Mapping[str, Any], source: Path) -> dict[str, Any]:
    recorded = given_settings(recording)
    try:
        SamplingSettings().with_changes(recorded)
    except ValueError as error:
        raise ValueError(f"the recording in {source} is damaged: {error}") from error
    return recorded
