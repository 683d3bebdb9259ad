"""Make videos for the nodes, by the same engine as the command line and the studio."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import comfy.model_management
import folder_paths
import numpy as np
import torch
from comfy_api.latest import ComfyAPISync
from PIL import Image

from videocrafter.generation.hardware import choose_dtype
from videocrafter.generation.loras import LoraChoice
from videocrafter.generation.memory_check import out_of_memory
from videocrafter.generation.request import GenerateOptions, PromptRow, check_options
from videocrafter.generation.run import generate, load, prepare
from videocrafter.generation.watcher import SamplingStep, Watcher, WrittenVideo
from videocrafter.media.image_file import write_image
from videocrafter.media.video_file import write_video
from videocrafter.presets import FAMILIES, MODEL_INDEX, PRESETS

_log = logging.getLogger("videocrafter")
_FOLDER = "videocrafter"
_SHOWN_FRAMES = 8


@dataclass(frozen=True, kw_only=True)
class Model:
    """A chosen model; the value that nodes pass on. Loaded when a video is made.

    Attributes:
        name: of a known model, or of a folder in models/videocrafter.
        dtype: precision.
        loras: files and weights.
    """

    name: str
    dtype: str
    loras: tuple[LoraChoice, ...] = ()

    def with_lora(self, path: Path, weight: float) -> Model:
        """Return the model with one more LoRA."""
        return replace(self, loras=(*self.loras, LoraChoice(path, weight)))


def model_names() -> list[str]:
    """Return the models that can be chosen: known ones, and folders in models/videocrafter."""
    return [*FAMILIES, *PRESETS, *sorted(path.parent.name for path in _own_folder().glob(f"*/{MODEL_INDEX}"))]


def _own_folder() -> Path:
    return Path(folder_paths.models_dir) / _FOLDER


class _Pipelines:
    """The pipeline of the last video, for the next one."""

    def __init__(self) -> None:
        self.key: tuple[object, ...] = ()
        self.pipeline: Any = None

    @contextmanager
    def loaded(self, prepared: Any, watcher: Watcher) -> Iterator[Any]:
        """Yield the pipeline of a run on its device. Afterwards it waits in main memory, out of the way."""
        # ComfyUI's own models make room, also for a pipeline that is loaded already.
        comfy.model_management.unload_all_models()
        device = comfy.model_management.get_torch_device()
        if self.key != prepared.pipeline_key:
            self.key, self.pipeline = (), None
            self.pipeline = load(prepared, watcher)
            self.key = prepared.pipeline_key
        try:
            if device.type != "cpu":
                _move(self.pipeline, device, prepared)
            yield self.pipeline
        finally:
            if device.type != "cpu":
                self.pipeline.to("cpu")
                comfy.model_management.soft_empty_cache()


def _move(pipeline: Any, device: torch.device, prepared: Any) -> None:
    try:
        pipeline.to(device)
    except torch.OutOfMemoryError as error:
        raise out_of_memory(prepared.options, prepared.folder, choose_dtype(prepared.options.dtype)) from error


_pipelines = _Pipelines()


class _NodeWatcher(Watcher):
    """Shows progress in ComfyUI, and stops when the user interrupts."""

    def __init__(self) -> None:
        super().__init__()
        self.api = ComfyAPISync()
        self.preview: Any = None
        self.video: WrittenVideo | None = None

    def note(self, text: str) -> None:
        _log.warning("%s", text)

    def begin(self, pipeline: Any, total: int) -> None:
        from videocrafter.pipelines.preview import LatentPreview

        self.preview = LatentPreview.fit(pipeline.vae)

    def after_step(self, step: SamplingStep) -> None:
        comfy.model_management.throw_exception_if_processing_interrupted()
        frames = self.preview.frames(step.estimate)[0]
        chosen = np.linspace(0, len(frames) - 1, min(len(frames), _SHOWN_FRAMES)).round().astype(int)
        # ComfyUI shows one picture, so the frames stand side by side.
        strip = Image.fromarray(np.concatenate(list(frames[chosen]), axis=1))
        self.api.execution.set_progress(value=step.done, max_value=step.total, preview_image=strip)

    def written(self, video: WrittenVideo) -> None:
        self.video = video


def make_video(
    model: Model, *, prompt: str, image: Any = None, last_image: Any = None, loop: bool = False, **settings: Any
) -> tuple[torch.Tensor, float, dict[str, Any]]:
    """Make one video.

    Args:
        model: the model with its LoRAs.
        prompt: what it shows.
        image, last_image: ComfyUI images [B, H, W, 3] in 0..1, or None; the first of a batch counts.
        loop: whether the last frame leads to the first.
        settings: the inputs of the nodes by their names; 0 and "" stand for the model's own values.

    Returns:
        Frames [T, H, W, 3] in 0..1, their rate, and the recording.

    Raises GenerationError, whose message says what to do.
    """
    given = {name: value for name, value in settings.items() if value or name == "seed"}
    sampling = {"num_inference_steps": given.get("steps"), "guidance_scale": given.get("guidance")}
    own = _own_folder() / model.name
    with tempfile.TemporaryDirectory(dir=folder_paths.get_temp_directory()) as folder:
        options = GenerateOptions(
            output=Path(folder) / "frames",
            rows=(PromptRow(prompt=prompt, image=_as_file(image, Path(folder) / "image.png"), where="the node"),),
            image_end=_as_file(last_image, Path(folder) / "last_image.png"),
            model=str(own) if (own / MODEL_INDEX).is_file() else model.name,
            loras=model.loras,
            dtype=model.dtype,
            device=str(comfy.model_management.get_torch_device()),
            sampling={name: value for name, value in sampling.items() if value is not None},
            seed=given["seed"],
            num_frames=given.get("frames"),
            width=given.get("width"),
            height=given.get("height"),
            fps=given.get("fps"),
            window=given.get("window"),
            negative_prompt=given.get("negative"),
            loop=loop or None,
        )
        check_options(options)
        prepared = prepare(options)
        watcher = _NodeWatcher()
        with _pipelines.loaded(prepared, watcher) as pipeline:
            generate(prepared, pipeline, watcher)
    assert watcher.video is not None
    frames = torch.from_numpy(np.array(watcher.video.frames)).float() / 255
    recording = dict(watcher.video.recording)
    return frames, float(recording["playback_fps"]), recording


def _as_file(image: Any, path: Path) -> Path | None:
    if image is None:
        return None
    write_image(path, _as_bytes(image[:1, ..., :3])[0])
    return path


def _as_bytes(images: torch.Tensor) -> np.ndarray:
    return (images.detach().cpu().float().clamp(0, 1) * 255).round().to(torch.uint8).numpy()


def save_video(path: Path, images: torch.Tensor, recording: dict[str, Any]) -> None:
    """Write frames [T, H, W, 3] in 0..1 with their recording. Raises OutputExistsError, never replaces a file."""
    write_video(path, _as_bytes(images), recording["playback_fps"], recording)
