"""A generation run: check, load, generate in batches, write. Every front end makes its videos with these functions.

    prepared = prepare(options)
    pipeline = load(prepared, watcher)
    generate(prepared, pipeline, watcher)

Each step raises `GenerationError` for what the user can fix, OSError for files, and `GenerationCancelled` when the
watcher cancels. Nothing is printed.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from videocrafter.checkpoints.hub.obtain import obtain_model
from videocrafter.generation.chosen_model import chosen_model
from videocrafter.generation.errors import (
    ModelUnavailableError,
    NotFiniteError,
    expecting,
)
from videocrafter.generation.inputs import Inputs, read_inputs
from videocrafter.generation.outputs import (
    check_encodings,
    check_names,
    check_outputs,
    is_empty_folder,
    plan_outputs,
)
from videocrafter.generation.processes import ALONE, ProcessShare, check_shares
from videocrafter.generation.recording import record_of_run, record_of_video
from videocrafter.generation.request import GenerateOptions, PromptRow
from videocrafter.generation.watcher import SamplingStep, Watcher, WrittenVideo
from videocrafter.pipelines.model_folder import fingerprint
from videocrafter.presets import Task

if TYPE_CHECKING:
    import numpy as np

    from videocrafter.generation.memory_plan import GenerationPlan
    from videocrafter.generation.mode import Mode, Pipeline
    from videocrafter.pipelines.settings import VideoRequest

LARGEST_SEED = 2**32


@dataclass(frozen=True, kw_only=True)
class PreparedRun:
    """A run whose options, inputs, outputs and model folder were checked, without heavy libraries.

    Attributes:
        options: the request.
        folder: the model.
        model_hash: fingerprint of the model's files.
        outputs: the files or folders that will be written.
        inputs: images and clips.
    """

    options: GenerateOptions
    folder: Path
    model_hash: str
    outputs: tuple[Path, ...]
    inputs: Inputs

    def row(self, index: int) -> PromptRow:
        """Return the prompt of video number `index`."""
        return self.options.rows[index // self.options.num_videos]

    @property
    def pipeline_key(self) -> tuple[object, ...]:
        """Value that is equal for runs that may share a loaded pipeline."""
        options = self.options
        loras = tuple((str(lora), lora.path.stat().st_mtime_ns) for lora in options.loras)
        sampler = (options.scheduler, options.spacing, options.zero_terminal_snr)
        # Settings that save memory are chosen for the size of a run.
        size = (options.num_frames, options.height, options.width, options.batch_size)
        saving = size if options.low_memory else None
        return (self.folder, self.model_hash, options.device, options.dtype, sampler, loras, saving)


def prepare(options: GenerateOptions, *, obtain: Callable[[str, Task], Path] = obtain_model) -> PreparedRun:
    """Check everything that does not need the heavy libraries.

    Args:
        options: after `check_options`.
        obtain: returns the folder of a model by name or path; by default downloads and converts it if needed.

    Raises:
        GenerationError: wrong settings, inputs or outputs; ModelUnavailableError for the model.
        OSError: files that cannot be read or written.
    """
    with expecting():
        outputs = plan_outputs(options.output, options.num_outputs)
        check_names(outputs, options)
        check_outputs(outputs, options)
        inputs = read_inputs(options)
    with expecting(error=ModelUnavailableError):
        options, folder = chosen_model(options, obtain)
        model_hash = fingerprint(folder)
    with expecting():
        check_shares(options, folder)
    return PreparedRun(options=options, folder=folder, model_hash=model_hash, outputs=tuple(outputs), inputs=inputs)


def load(prepared: PreparedRun, watcher: Watcher) -> Pipeline:
    """Load the pipeline and set its scheduler, device, precision and LoRAs.

    Raises GenerationError for settings that the model does not allow, NotEnoughMemoryError if it does not fit,
    ModelUnavailableError for damaged weights.
    """
    from videocrafter.generation.hardware import choose_device, choose_dtype
    from videocrafter.generation.loras import add_loras
    from videocrafter.generation.memory_check import check_memory, size_in_words
    from videocrafter.pipelines.loading import load_pipeline

    options = prepared.options
    if options.expected_model_hash not in (None, prepared.model_hash):
        watcher.note(f"the model {options.model_name} has changed since the video was made; the result will differ")
    watcher.stop_if_cancelled()
    plan: GenerationPlan | None = None
    with expecting():
        device, dtype = choose_device(options.device), choose_dtype(options.dtype)
        if options.low_memory:
            from videocrafter.generation.low_memory import choose_plan

            plan = choose_plan(options, prepared.folder, device, dtype)
        else:
            check_memory(options, prepared.folder, device, dtype)
    with expecting(error=ModelUnavailableError), _reporting_memory(prepared):
        # Weights that are offloaded or stored in 8 bits never exist as a whole on the device.
        pipeline: Pipeline = load_pipeline(prepared.folder, device=device if plan is None else "cpu", dtype=dtype)
    with expecting():
        # A distilled LoRA brings a sampler of its own; one that was asked for replaces it.
        notes = add_loras(pipeline, options.loras)
        notes += pipeline.use_scheduler(
            options.scheduler, spacing=options.spacing, zero_terminal_snr=bool(options.zero_terminal_snr)
        )
        for text in notes:
            watcher.note(text)
        if plan is not None:
            with _reporting_memory(prepared):
                pipeline.save_memory(plan.saving, device)
            watcher.note(f"low memory: {plan.saving}; needs about {size_in_words(plan.need.total)}")
    if options.expected_saving not in (None, str(pipeline.memory_settings)):
        watcher.note(
            f"the video was made with these settings to save memory: {options.expected_saving}; without them the"
            " result differs slightly"
        )
    pipeline.set_progress_bar_config(disable=True)
    watcher.stop_if_cancelled()
    return pipeline


def generate(prepared: PreparedRun, pipeline: Pipeline, watcher: Watcher, share: ProcessShare = ALONE) -> list[Path]:
    """Make and write all videos, or this process's share of them; return the paths of all.

    Raises:
        GenerationError: settings that the model does not allow, or an output that cannot be written.
        NotEnoughMemoryError: the device has too little memory, or ran out of it.
        NotFiniteError: NaN or infinity during sampling.
        GenerationCancelled: the watcher cancelled. Videos that were written stay.
        OSError: an input or output failed.
    """
    from videocrafter.generation.hardware import choose_device, choose_dtype
    from videocrafter.generation.memory_check import check_memory
    from videocrafter.generation.mode import choose_mode

    with expecting():
        # Not only before loading: this run may be larger than the one that the pipeline was loaded for.
        # With settings that save memory, it was loaded for this one.
        device, dtype = choose_device(prepared.options.device), choose_dtype(prepared.options.dtype)
        if not prepared.options.low_memory:
            check_memory(prepared.options, prepared.folder, device, dtype, pipeline)
        mode = choose_mode(pipeline, prepared.options, prepared.inputs)
        request = _request(prepared, pipeline, mode)
    for text in (*mode.notes(request), *_image_notes(prepared, pipeline, request)):
        watcher.note(text)
    shared = {"model_hash": prepared.model_hash}
    shared |= record_of_run(prepared.options, pipeline, mode, request, prepared.inputs)
    batches = request.split(prepared.options.batch_size)
    num_steps = mode.num_steps(request)
    own = [number for number in range(len(batches)) if share.makes(number)]
    watcher.begin(pipeline, len(own) * num_steps)
    first = 0
    for number, batch in enumerate(batches):
        if number not in own:
            first += batch.num_videos
            continue
        watcher.stop_if_cancelled()
        on_step_end = _step_callback(watcher, batch, own.index(number) * num_steps, num_steps, len(own) * num_steps)
        images = _images(prepared, pipeline, batch, first)
        with expecting(FloatingPointError, error=NotFiniteError), _reporting_memory(prepared):
            result = mode.generate(batch, images, output_type="uint8", callback_on_step_end=on_step_end)
        for name, seconds in result.seconds.items():
            watcher.add_seconds(name, seconds)
        for index, frames in enumerate(result.frames if share.writes else ()):
            watcher.stop_if_cancelled()
            with watcher.uninterrupted():
                watcher.written(_write_one(prepared, watcher, frames, batch, index, first + index, shared))
        first += batch.num_videos
    return list(prepared.outputs)


def _step_callback(
    watcher: Watcher, batch: VideoRequest, before: int, num_steps: int, total: int
) -> Callable[[Any, int, Any, dict[str, Any]], None]:
    # Derived pipelines sample in several passes, each of which counts from 0.
    numbers = iter(range(1, num_steps + 1))

    def on_step_end(_: Any, __: int, ___: Any, state: dict[str, Any]) -> None:
        number = next(numbers)
        watcher.after_step(
            SamplingStep(
                number=number, num_steps=num_steps, done=before + number, total=total, batch=batch, state=state
            )
        )
        watcher.stop_if_cancelled()

    return on_step_end


@contextmanager
def _reporting_memory(prepared: PreparedRun) -> Iterator[None]:
    """Turn a device that runs out of memory into NotEnoughMemoryError."""
    import torch

    from videocrafter.generation.hardware import choose_dtype
    from videocrafter.generation.memory_check import out_of_memory

    try:
        yield
    except (MemoryError, torch.OutOfMemoryError) as error:
        raise out_of_memory(prepared.options, prepared.folder, choose_dtype(prepared.options.dtype)) from error


def _image_notes(prepared: PreparedRun, pipeline: Pipeline, request: VideoRequest) -> Iterator[str]:
    from videocrafter.pipelines.image_notes import image_note

    for path in dict.fromkeys(row.image for row in prepared.options.rows if row.image is not None):
        note = None if prepared.options.quiet else image_note(pipeline, prepared.inputs.image(path), request)
        if note is not None:
            yield f"{path}: {note}"


def _request(prepared: PreparedRun, pipeline: Pipeline, mode: Mode) -> VideoRequest:
    options, defaults, clip = prepared.options, pipeline.generation_defaults, prepared.inputs.clip
    seed = secrets.randbelow(LARGEST_SEED) if options.seed is None else options.seed
    fps = _first_given(options.fps, None if clip is None else clip.fps, defaults.fps)
    negative = _first_given(options.negative_prompt, defaults.negative_prompt)
    request = mode.check_inputs(
        [row.prompt for row in options.rows],
        [_first_given(row.negative_prompt, negative) for row in options.rows],
        num_frames=options.num_frames,
        height=options.height,
        width=options.width,
        fps=[_first_given(row.fps, fps) for row in options.rows],
        image_fit=_first_given(options.image_fit, "stretch"),
        seeds=[_first_given(row.seed, seed) + index for row in options.rows for index in range(options.num_videos)],
        num_videos_per_prompt=options.num_videos,
        **options.sampling,
    )
    rates = [_playback_fps(prepared, fps) for fps in request.fps]
    check_encodings(prepared.outputs, rates, request, options.codec)
    return request


def _first_given(*values: Any) -> Any:
    return next((value for value in values if value is not None), None)


def _playback_fps(prepared: PreparedRun, fps: float) -> float:
    """Return the frame rate of a file: the given one, else the input clip's, else the motion's."""
    clip = prepared.inputs.clip
    return _first_given(prepared.options.playback_fps, None if clip is None else clip.fps, fps)


def _images(prepared: PreparedRun, pipeline: Pipeline, batch: VideoRequest, first: int) -> list[np.ndarray] | None:
    """Return the input images of a batch whose first video is number `first`."""
    # Interpolation has both images already.
    if not pipeline.takes_image or prepared.options.image_end is not None or prepared.row(first).image is None:
        return None
    rows = [prepared.row(first + index) for index in range(batch.num_videos)]
    return [prepared.inputs.image(row.image) for row in rows if row.image is not None]


def _write_one(
    prepared: PreparedRun,
    watcher: Watcher,
    frames: np.ndarray,
    batch: VideoRequest,
    index: int,
    number: int,
    shared: dict[str, Any],
) -> WrittenVideo:
    """Write video `index` of a batch, which is video `number` of the run."""
    from videocrafter.media.video_file import write_video

    options, path = prepared.options, prepared.outputs[number]
    playback_fps = _playback_fps(prepared, batch.fps[index])
    recording = record_of_video(batch, index, prepared.row(number), options, prepared.inputs, playback_fps)
    recording |= shared
    overwrite = options.overwrite or is_empty_folder(path)
    with watcher.phase("write"), expecting():
        write_video(path, frames, playback_fps, recording, overwrite=overwrite, codec=options.codec)
    return WrittenVideo(index=number, path=path, frames=frames, recording=recording)
