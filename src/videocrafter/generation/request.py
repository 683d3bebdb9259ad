"""The options of one run, and their checks before a model is loaded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from typing_extensions import Self

from videocrafter.generation.loras import LoraChoice
from videocrafter.pipelines.quality_presets import check_preset, preset_settings
from videocrafter.pipelines.sampling_settings import IMAGE_SETTING_NAMES, SamplingSettings, given_settings
from videocrafter.presets import DEFAULT_MODEL, PRESETS, Task

_MOST_VIDEOS = 100_000
SPLITS = ("videos", "branches", "frames")
"""Work that several devices share: each makes its own videos, or all work on the branches or frames of each video."""


@dataclass(frozen=True, kw_only=True)
class PromptRow:
    """One prompt and the settings that belong to it alone; None means "not given".

    Attributes:
        prompt: description of the video.
        negative_prompt, seed, fps: override those of the run.
        image: an image as named in a prompts file or, after pairing, its path.
        where: the place it was read from, for messages, such as "prompts.csv, line 3".
    """

    prompt: str
    negative_prompt: str | None = None
    seed: int | None = None
    fps: float | None = None
    image: Path | None = None
    where: str = "the command line"


@dataclass(frozen=True, kw_only=True)
class GenerateOptions:
    """The options of one run; None means "not given", and the model's recommended value applies.

    Attributes:
        rows: the prompts, each with the settings that belong to it alone.
        image: the image, or the folder of images, as it was given. Each row has its own image.
        sampling: the sampling settings that were given, by their names in `SamplingSettings`.
        preset: "quality", "fast" or "draft"; gives settings that were not given themselves. See `with_preset`.
    """

    output: Path
    rows: tuple[PromptRow, ...] = ()
    negative_prompt: str | None = None
    image: Path | None = None
    image_fit: str | None = None
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
    sampling: Mapping[str, Any] = field(default_factory=dict)
    seed: int | None = None
    preset: str | None = None
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
    low_memory: bool = False
    devices: int = 1
    split: str = "videos"
    codec: str | None = None
    contact_sheet: Path | None = None
    preview: Path | None = None
    preview_every: int = 1
    absolute_paths: bool = False
    expected_sha256: Mapping[Path, str] = field(default_factory=dict, repr=False)
    expected_model_hash: str | None = field(default=None, repr=False)
    expected_saving: str | None = field(default=None, repr=False)

    @classmethod
    def from_arguments(cls, arguments: Mapping[str, Any]) -> Self:
        """Pick the options by name from the arguments of the command."""
        names = {one.name for one in fields(cls)}
        options = {name: value for name, value in arguments.items() if name in names}
        return cls(**options, sampling=given_settings(arguments))

    @property
    def clip(self) -> Path | None:
        """The input video that is changed or continued, if any."""
        return self.video or self.continued

    @property
    def task(self) -> Task:
        """Image to video if an image is given. With an input video, which brings its own image, the model decides."""
        if any(row.image is not None for row in self.rows):
            return "i2v"
        preset = PRESETS.get(self.model_name)
        return preset.task if preset is not None and self.clip is not None else "t2v"

    @property
    def model_name(self) -> str:
        """The given model, or the one that ships with the package."""
        return DEFAULT_MODEL if self.model is None else self.model

    @property
    def num_outputs(self) -> int:
        """Number of videos to write."""
        return len(self.rows) * self.num_videos


def with_preset(options: GenerateOptions, defaults: Mapping[str, Any] | None) -> GenerateOptions:
    """Return the options with the settings of their preset for a model; what was given itself takes precedence.

    A preset may also replace the model.

    Args:
        defaults: the model's recommended settings, as its folder stores them.

    Raises:
        ValueError: an unknown preset, or the model's are damaged.
    """
    if options.preset is None:
        return options
    settings = preset_settings(options.preset, defaults)
    scheduler, model = settings.pop("scheduler", None), settings.pop("model", None)
    return replace(
        options,
        model=model or options.model,
        scheduler=options.scheduler or scheduler,
        sampling={**settings, **options.sampling},
    )


def check_options(options: GenerateOptions) -> None:
    """Raise ValueError for errors that do not depend on the model. Messages begin with the name of the setting."""
    if not options.rows:
        raise ValueError("no prompt was given; write one in quotes, or use `prompts_file` FILE or `repeated` VIDEO")
    for name in ("num_videos", "batch_size", "preview_every", "devices"):
        if getattr(options, name) < 1:
            raise ValueError(f"{name} must be at least 1, but is {getattr(options, name)}")
    if options.num_videos > _MOST_VIDEOS:
        raise ValueError(f"num_videos must be at most {_MOST_VIDEOS} per prompt, but is {options.num_videos}")
    if not options.output.name:
        raise ValueError(f"output {str(options.output)!r} is a folder; name the file, such as video.mp4")
    if options.num_frames is not None and options.num_frames < 1:
        raise ValueError(f"num_frames must be at least 1, but is {options.num_frames}")
    for seed in (options.seed, *(row.seed for row in options.rows)):
        if seed is not None and not 0 <= seed < 2**63 - options.num_videos:
            raise ValueError(f"seed must be between 0 and 2**63 - 1, but is {seed}")
    if options.playback_fps is not None and not 0 < options.playback_fps <= 240:
        raise ValueError(f"playback_fps must be above 0 and at most 240, but is {options.playback_fps:g}")
    if options.split not in SPLITS:
        raise ValueError(f"split must be {', '.join(SPLITS[:-1])} or {SPLITS[-1]}, but is {options.split!r}")
    if options.devices > 1 and options.split == "videos" and options.contact_sheet is not None:
        raise ValueError("contact_sheet needs all videos in one process; leave out `devices`, or `split` one video")
    if options.devices > 1 and ":" in options.device:
        raise ValueError(
            f"device {options.device} is one device, but `devices` is {options.devices}; each process takes its own,"
            f" so set `device` to {options.device.partition(':')[0]} or leave it out"
        )
    if options.devices > 1 and options.low_memory:
        raise ValueError("low_memory plans for one device; leave out `devices`")
    if options.preset is not None:
        check_preset(options.preset)
    SamplingSettings().with_changes(options.sampling)
    _check_image_settings(options)
    _check_modes(options)


def _check_image_settings(options: GenerateOptions) -> None:
    if any(row.image is not None for row in options.rows) or options.clip is not None:
        return
    given = [name for name in IMAGE_SETTING_NAMES if name in options.sampling]
    if options.image_fit is not None:
        given.append("image_fit")
    if given:
        raise ValueError(f"{given[0]} has no effect without an image; give one with `image`")


def _check_modes(options: GenerateOptions) -> None:
    """Raise ValueError for modes that exclude each other, and for settings of another mode."""
    modes = {
        "video": options.video is not None,
        "continued": options.continued is not None,
        "image_end": options.image_end is not None,
        "loop": bool(options.loop),
    }
    chosen = [f"`{name}`" for name, is_chosen in modes.items() if is_chosen]
    if len(chosen) > 1:
        raise ValueError(f"{' and '.join(chosen)} cannot be combined; choose one")
    if options.strength is not None and options.video is None:
        raise ValueError("strength has no effect without `video`")
    if options.image_end is not None and len({row.image for row in options.rows}) != 1:
        raise ValueError("image_end takes one `image` as the first frame, not several")
    if options.image_end is not None and options.rows[0].image is None:
        raise ValueError("image_end is the last frame of a video; give the first with `image`")
    if options.window_overlap is not None and options.continued is not None:
        raise ValueError("window_overlap cannot be combined with `continued`, whose windows follow one another")
