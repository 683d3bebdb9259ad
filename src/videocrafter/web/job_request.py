"""The request of a job: the JSON that `POST jobs` takes, and its way to the options of a generation run.

Settings have the names that recordings use, so that a recording is a request and the other way round.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from videocrafter.generation.errors import GenerationError, expecting
from videocrafter.generation.loras import LoraChoice
from videocrafter.generation.recording import recorded_model
from videocrafter.generation.request import GenerateOptions, PromptRow, check_options
from videocrafter.pipelines.quality_presets import Preset
from videocrafter.pipelines.sampling_settings import IMAGE_SETTING_NAMES, SETTING_NAMES
from videocrafter.presets import DEFAULT_MODEL
from videocrafter.web.limits import Limits

Id = Annotated[str, Field(pattern="^[0-9a-f]{32}$")]

_RANDOM_SEEDS = 2**32
_LARGEST_SEED = 2**53 - 1
"""Browsers round larger numbers."""
_FILES = ("image", "image_end", "video", "continued")
_RECORDED = (
    *("negative_prompt", "num_frames", "height", "width", "fps", "playback_fps", "seed", "scheduler"),
    *("spacing", "zero_terminal_snr", "dtype", "image_fit", "strength", "loop", "window", "window_overlap"),
)

_SAME = tuple(name for name in _RECORDED if name not in ("seed", "loop"))
"""Settings that a run takes under the same name."""
_COSTLY = (
    *("model", "preset", "num_frames", "height", "width", "num_inference_steps", "scheduler", "guidance_scale"),
    *("dtype", "strength", "loop", "window", "temporal_guidance_scale", "image_guidance_scale"),
)
"""Settings that decide how long a video takes."""


def _encodable(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"character {error.start + 1} of the text is half of a surrogate pair, not a whole character; remove it"
        ) from error
    return text


_Text = Annotated[str, AfterValidator(_encodable)]
"""Text that every answer can contain."""


class LoraRequest(BaseModel):
    """A LoRA of the studio by its name, and its weight."""

    model_config = ConfigDict(extra="forbid")

    name: Annotated[str, Field(max_length=200)]
    weight: Annotated[float, Field(ge=-10, le=10, allow_inf_nan=False)] = 1.0


class JobRequest(BaseModel):
    """Everything that a job may set. What is left out takes the model's recommended value.

    `image`, `image_end`, `video` and `continued` are ids of uploads or of videos of the gallery.
    """

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    prompt: _Text
    negative_prompt: _Text | None = None
    model: Annotated[str, Field(max_length=200)] = DEFAULT_MODEL
    loras: list[LoraRequest] = []
    preset: Preset | None = None
    num_videos: Annotated[int, Field(ge=1)] = 1
    seed: Annotated[int, Field(ge=0, lt=2**63 - 1000)] | None = None
    num_frames: Annotated[int, Field(ge=1, le=10_000)] | None = None
    height: Annotated[int, Field(ge=1, le=8192)] | None = None
    width: Annotated[int, Field(ge=1, le=8192)] | None = None
    fps: Annotated[float, Field(gt=0, le=1000)] | None = None
    playback_fps: Annotated[float, Field(gt=0, le=240)] | None = None
    image: Id | None = None
    image_end: Id | None = None
    video: Id | None = None
    continued: Id | None = None
    loop: bool = False
    strength: float | None = None
    image_fit: Literal["stretch", "crop", "pad"] | None = None
    num_inference_steps: Annotated[int, Field(ge=1, le=1000)] | None = None
    guidance_scale: float | None = None
    guidance_rescale: float | None = None
    guidance_interval: tuple[float, float] | None = None
    guidance_log_snr: tuple[float, float] | None = None
    image_scale: float | None = None
    image_guidance_scale: float | None = None
    temporal_guidance_scale: float | None = None
    eta: float | None = None
    scheduler: Annotated[str, Field(max_length=40)] | None = None
    spacing: Annotated[str, Field(max_length=40)] | None = None
    zero_terminal_snr: bool | None = None
    window: Annotated[int, Field(ge=1, le=10_000)] | None = None
    window_overlap: Annotated[int, Field(ge=0, le=10_000)] | None = None
    dtype: Literal["float32", "bfloat16", "float16"] | None = None

    def with_seed(self) -> JobRequest:
        """Return the request with a random seed if it has none: a job that runs again makes the same video."""
        return self.model_copy(update={"seed": secrets.randbelow(_RANDOM_SEEDS)}) if self.seed is None else self

    def stored(self) -> dict[str, Any]:
        """Return the JSON form, without what was left out."""
        return self.model_dump(mode="json", exclude_none=True)


@dataclass(frozen=True, kw_only=True)
class Library:
    """Names and ids that requests use, and their files.

    Attributes:
        models: folder of each model of the studio's own folder; models known by name are not in it.
        loras: file of each LoRA.
        file_of: returns the file of an upload or video. Raises KeyError for an unknown id.
    """

    models: Mapping[str, Path]
    loras: Mapping[str, Path]
    known_models: Sequence[str]
    file_of: Callable[[str], Path]

    def model(self, name: str) -> str:
        """Return what the generation takes for a model. Raises GenerationError for one that is not offered."""
        if name in self.models:
            return str(self.models[name])
        if name in self.known_models:
            return name
        raise GenerationError(
            f"model {name[:80]!r} is not offered here; choose one of {', '.join([*self.known_models, *self.models])},"
            " or place a pipeline folder in the studio's folder `models`"
        )

    def lora(self, name: str) -> Path:
        """Return the file of a LoRA. Raises GenerationError for one that is not offered."""
        if name not in self.loras:
            raise GenerationError(
                f"LoRA {name[:80]!r} is not offered here; place it in the studio's folder `loras` as a .safetensors"
                " file"
            )
        return self.loras[name]

    def file(self, setting: str, identity: str | None) -> Path | None:
        """Return the file of an input. Raises GenerationError for an unknown id."""
        if identity is None:
            return None
        try:
            return self.file_of(identity)
        except KeyError as error:
            raise GenerationError(f"{setting} {identity} is neither an upload nor a video here; upload it") from error


def check_request(request: JobRequest, library: Library, limits: Limits) -> None:
    """Raise GenerationError for what can be found out without the model."""
    for setting, value, most in (
        ("prompt", len(request.prompt), limits.prompt_length),
        ("negative_prompt", len(request.negative_prompt or ""), limits.prompt_length),
        ("num_videos", request.num_videos, limits.videos_per_job),
        ("loras", len(request.loras), limits.loras_per_job),
    ):
        if value > most:
            unit = " characters" if setting.endswith("prompt") else ""
            raise GenerationError(f"{setting} may have at most {most}{unit}, but has {value}")
    if (request.seed or 0) + request.num_videos - 1 > _LARGEST_SEED:
        raise GenerationError(
            f"seed {request.seed} is too large; the seeds of a job's videos may be at most {_LARGEST_SEED}"
        )
    options = generate_options(request, library, Path("video.mp4"))
    with expecting():
        check_options(options)


def generate_options(
    request: JobRequest, library: Library, output: Path, *, number: int = 0, device: str = "auto"
) -> GenerateOptions:
    """Return the options of the run that makes video `number` of a job.

    Raises GenerationError for models, LoRAs and files that the studio does not have.
    """
    settings = request.stored()
    files = {name: library.file(name, getattr(request, name)) for name in _FILES}
    same: dict[str, Any] = {name: settings.get(name) for name in _SAME}
    return GenerateOptions(
        output=output,
        rows=(PromptRow(prompt=request.prompt, image=files["image"]),),
        model=library.model(request.model),
        loras=tuple(LoraChoice(library.lora(lora.name), lora.weight) for lora in request.loras),
        preset=request.preset,
        sampling={name: settings[name] for name in SETTING_NAMES if name in settings},
        seed=(request.seed or 0) + number,
        loop=request.loop or None,
        device=device,
        overwrite=True,
        image_end=files["image_end"],
        video=files["video"],
        continued=files["continued"],
        **same,
    )


def workload_of(request: JobRequest) -> str:
    """Return a text that is equal for requests whose videos take equally long."""
    settings = request.stored()
    files = "".join(str(int(getattr(request, name) is not None)) for name in _FILES)
    return "|".join([*(str(settings.get(name, "")) for name in _COSTLY), files])


def request_of_recording(
    recording: Mapping[str, Any], library: Library, find_content: Callable[[str, str], str | None]
) -> tuple[JobRequest, list[str]]:
    """Return the request that repeats a recorded video, and notes about what the studio does not have.

    Args:
        recording: as read from one of our files; it may be damaged or hostile.
        library: what the studio offers.
        find_content: returns the id of an upload with a SHA-256, for the setting that needs it.

    Raises pydantic.ValidationError for values that no request can have.
    """
    values = {name: recording[name] for name in (*_RECORDED, *SETTING_NAMES) if recording.get(name) is not None}
    notes = []
    if not (recording.get("image") or recording.get("video") or recording.get("continued")):
        for name in (*IMAGE_SETTING_NAMES, "image_fit"):
            values.pop(name, None)
    model = recorded_model(recording) if "model" in recording else DEFAULT_MODEL
    name = model if model in library.known_models else Path(model).name
    if name in library.known_models or name in library.models:
        values["model"] = name
    else:
        notes.append(f"the model {name[:80]!r} is not here; {DEFAULT_MODEL!r} takes its place")
    for setting in _FILES:
        if recording.get(setting):
            found = find_content(setting, str(recording.get(f"{setting}_sha256", "")))
            if found is not None:
                values[setting] = found
            else:
                notes.append(
                    f"the file for {setting}, {Path(str(recording[setting])).name[:80]!r}, is not here; add it"
                )
    loras = []
    recorded = recording.get("loras")
    for text in recorded if isinstance(recorded, list) else ():
        path, _, weight = str(text).rpartition(":")
        stem = Path(path).stem
        if stem in library.loras:
            loras.append({"name": stem, "weight": weight})
        else:
            notes.append(f"the LoRA {stem[:80]!r} is not here; it is left out")
    values["loras"] = loras
    request = JobRequest.model_validate({"prompt": recording.get("prompt", ""), **values})
    if request.seed is not None and request.seed > _LARGEST_SEED:
        notes.append(f"the seed {request.seed} is larger than {_LARGEST_SEED}; a random one takes its place")
        request = request.model_copy(update={"seed": None})
    return request, notes
