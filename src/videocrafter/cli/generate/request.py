"""What one `videocrafter generate` was asked for: its options, and recordings of earlier runs.

A recording is the metadata of a generated video: one flat JSON object with every setting that made it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from videocrafter.cli.generate.loras import LoraChoice, parse_lora
from videocrafter.cli.generate.prompt_files import PromptRow
from videocrafter.presets import DEFAULT_MODEL, PRESETS, Task


@dataclass(frozen=True, kw_only=True)
class GenerateOptions:
    """The options of one run; None means "not given", and then the model's recommendation counts.

    `rows` are the prompts, each with what is asked for with it alone. `image` is the picture, or the folder of
    pictures, of the command line; once paired (`cli.picture_pairing`), the rows know their pictures themselves.
    """

    output: Path
    rows: tuple[PromptRow, ...] = ()
    negative_prompt: str | None = None
    image: Path | None = None
    image_fit: str | None = None
    image_scale: float | None = None
    image_guidance_scale: float | None = None
    image_end: Path | None = None
    video: Path | None = None
    strength: float | None = None
    continued: Path | None = None
    loop: bool | None = None
    window: int | None = None
    window_overlap: int | None = None
    num_frames: int | None = None
    height: int | None = None
    width: int | None = None
    fps: float | None = None
    playback_fps: float | None = None
    num_inference_steps: int | None = None
    guidance_scale: float | None = None
    guidance_rescale: float | None = None
    guidance_interval: tuple[float, float] | None = None
    temporal_guidance_scale: float | None = None
    eta: float | None = None
    seed: int | None = None
    scheduler: str | None = None
    spacing: str | None = None
    zero_terminal_snr: bool | None = None
    loras: tuple[LoraChoice, ...] = ()
    model: str | None = None
    dtype: str | None = None
    device: str = "auto"
    num_videos: int = 1
    batch_size: int = 1
    overwrite: bool = False
    quiet: bool = False
    ignore_memory: bool = False
    contact_sheet: Path | None = None
    preview: Path | None = None
    preview_every: int = 1
    expected_sha256: Mapping[Path, str] = field(default_factory=dict, repr=False)
    expected_model_hash: str | None = field(default=None, repr=False)

    @property
    def clip(self) -> Path | None:
        """The video that is changed or continued, if any."""
        return self.video or self.continued

    @property
    def task(self) -> Task:
        """A picture makes it image to video. A clip brings its own picture, so there the model decides."""
        if any(row.image is not None for row in self.rows):
            return "i2v"
        preset = PRESETS.get(self.model_name)
        return preset.task if preset is not None and self.clip is not None else "t2v"

    @property
    def model_name(self) -> str:
        """The model asked for, or the one that ships."""
        return self.model or DEFAULT_MODEL

    @property
    def num_outputs(self) -> int:
        """How many videos will be written."""
        return len(self.rows) * self.num_videos


_NUMBER = (int, float)
_RECORDED: Mapping[str, type | tuple[type, ...]] = {
    "negative_prompt": str,
    "image_fit": str,
    "image_scale": _NUMBER,
    "image_guidance_scale": _NUMBER,
    "strength": _NUMBER,
    "loop": bool,
    "window": int,
    "window_overlap": int,
    "num_frames": int,
    "height": int,
    "width": int,
    "fps": _NUMBER,
    "playback_fps": _NUMBER,
    "num_inference_steps": int,
    "guidance_scale": _NUMBER,
    "guidance_rescale": _NUMBER,
    "guidance_interval": list,
    "temporal_guidance_scale": _NUMBER,
    "eta": _NUMBER,
    "seed": int,
    "scheduler": str,
    "spacing": str,
    "zero_terminal_snr": bool,
    "model": str,
    "dtype": str,
}
"""Settings that a recording holds under the name of the option, and what they are."""

_RECORDED_FILES = ("image_end", "video", "continued")


def repeat_recording(options: GenerateOptions, recording: Mapping[str, Any], source: Path) -> GenerateOptions:
    """Fill every option that was not given from a recording.

    Raises ValueError if the recording lacks the prompt, the seed or the model, or holds a wrong type.
    """
    for key in ("prompt", "seed", "model"):
        if key not in recording:
            raise ValueError(f"{source} holds no recording of videocrafter: it lacks {key!r}")
    changes: dict[str, Any] = {
        key: recording[key] for key in _RECORDED if getattr(options, key) is None and recording.get(key) is not None
    }
    for key, value in changes.items():
        if not isinstance(value, _RECORDED[key]):
            raise ValueError(f"the recording in {source} is damaged: {key} is {value!r}")
    if "guidance_interval" in changes:
        changes["guidance_interval"] = _interval(changes["guidance_interval"], source)
    if not options.rows:
        changes["rows"] = (PromptRow(prompt=str(recording["prompt"]), where=str(source)),)
    if not options.loras:
        changes["loras"] = tuple(parse_lora(str(text)) for text in recording.get("loras") or ())
    if options.model is None:
        changes["expected_model_hash"] = recording.get("model_hash")
    expected = {}
    for key in ("image", *_RECORDED_FILES):
        names_pictures = key == "image" and any(row.image is not None for row in options.rows)
        if getattr(options, key) is None and recording.get(key) and not names_pictures:
            changes[key] = Path(str(recording[key]))
            expected[changes[key]] = str(recording.get(f"{key}_sha256"))
    return replace(options, **changes, expected_sha256=expected)


def _interval(value: Sequence[Any], source: Path) -> tuple[float, float]:
    if len(value) != 2 or not all(isinstance(one, _NUMBER) for one in value):
        raise ValueError(f"the recording in {source} is damaged: guidance_interval is {value!r}")
    return float(value[0]), float(value[1])


def read_recording(path: Path) -> dict[str, Any]:
    """The recording of a video file, of a folder of frames, or of the JSON file beside one.

    Raises ValueError naming the file if there is none.
    """
    from videocrafter.media.video_file import read_metadata

    recording = read_metadata(path)
    if "prompt" not in recording:
        raise ValueError(f"{path} holds no recording of videocrafter; --from takes a video that it made")
    return recording


def check_options(options: GenerateOptions) -> None:
    """Raise ValueError for what can be seen to be wrong before any model is looked at."""
    if not options.rows:
        raise ValueError("no prompt was given; write one in quotes, or use --prompts FILE or --from VIDEO")
    for name in ("num_videos", "batch_size", "preview_every"):
        if getattr(options, name) < 1:
            raise ValueError(f"--{name.replace('_', '-')} must be at least 1, but is {getattr(options, name)}")
    if options.num_frames is not None and options.num_frames < 1:
        raise ValueError(f"--frames must be at least 1, but is {options.num_frames}")
    for seed in (options.seed, *(row.seed for row in options.rows)):
        if seed is not None and not 0 <= seed < 2**63 - options.num_videos:
            raise ValueError(f"--seed must lie in 0 ... 2**63 - 1, but is {seed}")
    if options.playback_fps is not None and not 0 < options.playback_fps <= 240:
        raise ValueError(f"--playback-fps must lie above 0 and at most 240, but is {options.playback_fps:g}")
    if options.preview is not None and options.preview.suffix.lower() != ".png":
        raise ValueError(f"the preview {options.preview} must end in .png")
    _check_pictures(options)
    _check_ways(options)


def _check_pictures(options: GenerateOptions) -> None:
    if options.image_scale is not None and options.image_scale < 0:
        raise ValueError(f"--image-scale must be at least 0, but is {options.image_scale:g}")
    if any(row.image is not None for row in options.rows) or options.clip is not None:
        return
    asked = {
        "--image-scale": options.image_scale,
        "--image-guidance": options.image_guidance_scale,
        "--fit": options.image_fit,
    }
    for name, value in asked.items():
        if value is not None:
            raise ValueError(f"{name} is a setting for a picture, but no --image was given")


def _check_ways(options: GenerateOptions) -> None:
    """Ways of making a video exclude each other, and some settings belong to one of them."""
    ways = {
        "--video": options.video is not None,
        "--continue": options.continued is not None,
        "--image-end": options.image_end is not None,
        "--loop": bool(options.loop),
    }
    chosen = [name for name, is_chosen in ways.items() if is_chosen]
    if len(chosen) > 1:
        raise ValueError(f"{' and '.join(chosen)} do not go together; choose one")
    if options.strength is not None and options.video is None:
        raise ValueError("--strength says how much of a --video to change, but none was given")
    if options.image_end is not None and len({row.image for row in options.rows}) != 1:
        raise ValueError("--image-end takes one --image for the beginning, not several")
    if options.image_end is not None and options.rows[0].image is None:
        raise ValueError("--image-end is the last picture of a video; give the first with --image")
    if options.window_overlap is not None and options.continued is not None:
        raise ValueError("--window-overlap does not go with --continue, where windows follow each other")


def clean_text(text: str) -> str:
    """Text of the command line without the stray bytes that terminals let through."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
