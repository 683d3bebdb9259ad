"""What one `videocrafter generate` was asked for: options, prompt files, and recordings of earlier runs.

A recording is the metadata of a generated video: one flat JSON object with every setting that made it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from videocrafter.presets import DEFAULT_MODEL, Task


@dataclass(frozen=True, kw_only=True)
class GenerateOptions:
    """The options of one run; None means "not given", and then the model's recommendation counts."""

    output: Path
    prompts: tuple[str, ...] = ()
    negative_prompt: str | None = None
    image: Path | None = None
    image_scale: float | None = None
    num_frames: int | None = None
    height: int | None = None
    width: int | None = None
    fps: float | None = None
    playback_fps: float | None = None
    num_inference_steps: int | None = None
    guidance_scale: float | None = None
    guidance_rescale: float | None = None
    eta: float | None = None
    seed: int | None = None
    scheduler: str | None = None
    model: str | None = None
    dtype: str | None = None
    device: str = "auto"
    num_videos: int = 1
    batch_size: int = 1
    overwrite: bool = False
    quiet: bool = False
    contact_sheet: Path | None = None
    expected_image_sha256: str | None = field(default=None, repr=False)
    expected_model_hash: str | None = field(default=None, repr=False)

    @property
    def task(self) -> Task:
        """An image makes it image to video."""
        return "t2v" if self.image is None else "i2v"

    @property
    def model_name(self) -> str:
        """The model asked for, or the one that ships."""
        return self.model or DEFAULT_MODEL

    @property
    def num_outputs(self) -> int:
        """How many videos will be written."""
        return len(self.prompts) * self.num_videos


_RECORDED = (
    "negative_prompt",
    "image_scale",
    "num_frames",
    "height",
    "width",
    "fps",
    "playback_fps",
    "num_inference_steps",
    "guidance_scale",
    "guidance_rescale",
    "eta",
    "seed",
    "scheduler",
    "model",
    "dtype",
)


def repeat_recording(options: GenerateOptions, recording: Mapping[str, Any], source: Path) -> GenerateOptions:
    """Fill every option that was not given from a recording.

    Raises ValueError if the recording lacks the prompt, the seed or the model, or holds a wrong type.
    """
    for key in ("prompt", "seed", "model"):
        if key not in recording:
            raise ValueError(f"{source} holds no recording of videocrafter: it lacks {key!r}")
    changes = {
        key: recording[key] for key in _RECORDED if getattr(options, key) is None and recording.get(key) is not None
    }
    for key, value in changes.items():
        expected = str if key in ("negative_prompt", "scheduler", "model", "dtype") else (int, float)
        if not isinstance(value, expected):
            raise ValueError(f"the recording in {source} is damaged: {key} is {value!r}")
    if not options.prompts:
        changes["prompts"] = (str(recording["prompt"]),)
    if options.model is None:
        changes["expected_model_hash"] = recording.get("model_hash")
    if options.image is None and recording.get("image"):
        changes["image"] = Path(str(recording["image"]))
        changes["expected_image_sha256"] = recording.get("image_sha256")
    return replace(options, **changes)


def read_recording(path: Path) -> dict[str, Any]:
    """The recording of a video file, of a folder of frames, or of the JSON file beside one.

    Raises ValueError naming the file if there is none.
    """
    from videocrafter.media.video_file import read_metadata

    recording = read_metadata(path)
    if "prompt" not in recording:
        raise ValueError(f"{path} holds no recording of videocrafter; --from takes a video that it made")
    return recording


def read_prompts(path: Path) -> tuple[str, ...]:
    """Prompts from a text file, one per line; blank lines and lines that begin with # are left out.

    Raises ValueError or OSError naming the file if it cannot be read or holds none.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no text file in UTF-8; a prompts file holds one prompt per line") from error
    prompts = tuple(line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#"))
    if not prompts:
        raise ValueError(f"{path} holds no prompts; write one per line (lines that begin with # are left out)")
    return prompts


def check_options(options: GenerateOptions) -> None:
    """Raise ValueError for what can be seen to be wrong before any model is looked at."""
    if not options.prompts:
        raise ValueError("no prompt was given; write one in quotes, or use --prompts FILE or --from VIDEO")
    for name in ("num_videos", "batch_size"):
        if getattr(options, name) < 1:
            raise ValueError(f"--{name.replace('_', '-')} must be at least 1, but is {getattr(options, name)}")
    if options.num_frames is not None and options.num_frames < 1:
        raise ValueError(f"--frames must be at least 1, but is {options.num_frames}")
    if options.seed is not None and not 0 <= options.seed < 2**63 - options.num_videos:
        raise ValueError(f"--seed must lie in 0 ... 2**63 - 1, but is {options.seed}")
    if options.playback_fps is not None and not 0 < options.playback_fps <= 240:
        raise ValueError(f"--playback-fps must lie above 0 and at most 240, but is {options.playback_fps:g}")
    if options.image is None and options.image_scale is not None:
        raise ValueError("--image-scale weighs an image, but no --image was given")


def clean_text(text: str) -> str:
    """Text of the command line without the stray bytes that terminals let through."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
