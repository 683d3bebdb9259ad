"""Run `videocrafter generate`: check, load, generate in batches, write, report."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from videocrafter.cli.errors import bad_input
from videocrafter.cli.generate.inputs import Inputs, read_inputs
from videocrafter.cli.generate.options import naming_options
from videocrafter.cli.generate.outputs import (
    check_names,
    check_outputs,
    check_playback_fps,
    is_empty_folder,
    plan_outputs,
)
from videocrafter.cli.generate.prompt_files import PromptRow
from videocrafter.cli.generate.recording import record_of_run, record_of_video
from videocrafter.cli.generate.request import GenerateOptions, splits_sentence
from videocrafter.cli.interruption import reporting_interruption
from videocrafter.cli.model_choice import model_folder

if TYPE_CHECKING:
    import numpy as np
    from rich.console import Console

    from videocrafter.cli.generate.mode import Mode, Pipeline
    from videocrafter.pipelines.settings import VideoRequest

_LARGEST_SEED = 2**32
_SHEET_COLUMNS = 32
_FEW = 4


@dataclass
class Run:
    """State of one run, passed from phase to phase."""

    options: GenerateOptions
    folder: Path
    outputs: list[Path]
    console: Console
    inputs: Inputs
    recording: dict[str, Any] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    num_written: int = 0
    for_sheet: list[tuple[np.ndarray, str]] = field(default_factory=list)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Add the time spent inside to the phase `name`."""
        start = time.perf_counter()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start

    @property
    def hides_progress(self) -> bool:
        """Whether to show no spinner or progress bar: with --quiet, or when output goes to a file."""
        return self.options.quiet or not self.console.is_terminal

    def status(self, text: str) -> AbstractContextManager[Any]:
        """Show a spinner."""
        return nullcontext() if self.hides_progress else self.console.status(text)

    def note(self, text: str) -> None:
        """Print a note for the user, unless --quiet is given."""
        if not self.options.quiet:
            self.console.print(f"note: {text}", markup=False, soft_wrap=True)

    def unfinished(self) -> str:
        """Describe what was written and what was not, for an interrupted run."""
        names = [str(path) for path in self.outputs]
        if not self.num_written:
            return f"No video was written; not generated: {_range_of(names)}."
        return (
            f"Written: {_range_of(names[: self.num_written])}; not generated:"
            f" {_range_of(names[self.num_written :]) or 'nothing'}."
        )

    def row(self, index: int) -> PromptRow:
        """Return the prompt of video number `index`."""
        return self.options.rows[index // self.options.num_videos]


def _range_of(names: Sequence[str]) -> str:
    """Name a few files, or the first and the last of many."""
    return " … ".join((names[0], names[-1])) if len(names) > _FEW else ", ".join(names)


def run(options: GenerateOptions) -> None:
    """Generate and write all videos. Wrong input ends the program with a one-line error."""
    this = _prepare(options)
    with reporting_interruption(this.unfinished):
        _run(this)


def _run(this: Run) -> None:
    options = this.options
    with this.phase("imports and model"):
        pipeline = _load(this)
    from videocrafter.cli.generate.mode import choose_mode

    with bad_input(), naming_options():
        mode = choose_mode(pipeline, options, this.inputs)
        request = _request(this, pipeline, mode)
    for text in (*mode.notes(request), *_image_notes(this, pipeline, request)):
        this.note(text)
    this.recording |= record_of_run(options, pipeline, mode, request, this.inputs)
    _generate_and_write(this, pipeline, mode, request)
    if options.contact_sheet is not None:
        _write_contact_sheet(this, options.contact_sheet)
    if not options.quiet:
        typer.echo(" · ".join(f"{name} {seconds:.1f} s" for name, seconds in this.seconds.items()))


def _prepare(options: GenerateOptions) -> Run:
    """Check everything that does not need the heavy libraries."""
    from rich.console import Console

    with bad_input(), naming_options():
        outputs = plan_outputs(options.output, options.num_outputs)
        check_names(outputs, options)
        check_outputs(outputs, options)
        console = Console(stderr=True, highlight=False)
        this = Run(options, Path(), outputs, console, inputs=read_inputs(options))
        _note_split_prompt(this)
        this.folder = model_folder(options.model_name, options.task, quiet=options.quiet)
    return this


def _load(this: Run) -> Pipeline:
    """Load the pipeline and set its scheduler, device, precision and LoRAs."""
    from videocrafter.pipelines.model_folder import check_model_folder, fingerprint

    options = this.options
    with bad_input():
        _check_task(options, check_model_folder(this.folder)["_class_name"])
        this.recording["model_hash"] = fingerprint(this.folder)
        if options.expected_model_hash not in (None, this.recording["model_hash"]):
            this.note(f"the model {options.model_name} has changed since the video was made; the result will differ")
    with this.status("loading the model"), bad_input():
        from videocrafter.cli.generate.loras import add_loras
        from videocrafter.cli.generate.memory_check import check_memory
        from videocrafter.cli.hardware import choose_device, choose_dtype
        from videocrafter.cli.quiet_libraries import silence_libraries
        from videocrafter.pipelines.loading import load_pipeline

        silence_libraries()
        device, dtype = choose_device(options.device), choose_dtype(options.dtype)
        check_memory(options, this.folder, device, dtype)
        pipeline = load_pipeline(this.folder, device=device, dtype=dtype)
        notes = pipeline.use_scheduler(
            options.scheduler, spacing=options.spacing, zero_terminal_snr=bool(options.zero_terminal_snr)
        )
        for text in [*notes, *add_loras(pipeline, options.loras)]:
            this.note(text)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def _note_split_prompt(this: Run) -> None:
    prompts = [row.prompt for row in this.options.rows]
    if all(row.where == PromptRow.where for row in this.options.rows) and splits_sentence(prompts):
        this.note(
            f"these are {len(prompts)} prompts of one word each; if they are one prompt, put it in quotes:"
            f' "{" ".join(prompts)}"'
        )


def _image_notes(this: Run, pipeline: Pipeline, request: VideoRequest) -> Iterator[str]:
    from videocrafter.pipelines.image_notes import image_note

    for path in dict.fromkeys(row.image for row in this.options.rows if row.image is not None):
        note = None if this.options.quiet else image_note(pipeline, this.inputs.image(path), request)
        if note is not None:
            yield f"{path}: {note}"


def _check_task(options: GenerateOptions, class_name: str) -> None:
    """Raise ValueError if the model and the options differ in whether they take an image."""
    from videocrafter.pipelines.model_folder import PIPELINE_TASKS

    task = PIPELINE_TASKS[class_name]
    # A frame of the input video can replace the image, and any model can interpolate between two images.
    if task == options.task or (task == "i2v" and options.clip is not None):
        return
    if task == "t2v" and options.image_end is not None:
        return
    problem = "needs an image; give one with --image" if task == "i2v" else "takes no image; leave out --image"
    raise ValueError(f"the model {options.model_name} {problem}")


def _request(this: Run, pipeline: Pipeline, mode: Mode) -> VideoRequest:
    options, defaults, clip = this.options, pipeline.generation_defaults, this.inputs.clip
    seed = secrets.randbelow(_LARGEST_SEED) if options.seed is None else options.seed
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
    for index, path in enumerate(this.outputs):
        check_playback_fps(path, _playback_fps(this, request.fps[index]))
    return request


def _first_given(*values: Any) -> Any:
    return next((value for value in values if value is not None), None)


def _playback_fps(this: Run, fps: float) -> float:
    """Return the frame rate of a file: the given one, else the input clip's, else the motion's."""
    return _first_given(this.options.playback_fps, None if this.inputs.clip is None else this.inputs.clip.fps, fps)


def _generate_and_write(this: Run, pipeline: Pipeline, mode: Mode, request: VideoRequest) -> None:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    batches = request.split(this.options.batch_size)
    num_steps = mode.num_steps(request)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    draw = _preview(this, pipeline, num_steps)
    with Progress(*columns, console=this.console, disable=this.hides_progress, transient=True) as progress:
        bar = progress.add_task("denoising", total=len(batches) * num_steps)
        for batch in batches:
            steps = iter(range(num_steps))

            def on_step_end(
                _: Any, __: int, ___: Any, state: dict[str, Any], batch: VideoRequest = batch, steps: Any = steps
            ) -> None:
                progress.advance(bar)
                draw(next(steps), state, batch)

            images = _images(this, pipeline, batch)
            with bad_input(FloatingPointError):
                result = mode.generate(batch, images, callback_on_step_end=on_step_end)
            for name, seconds in result.seconds.items():
                this.seconds[name] = this.seconds.get(name, 0.0) + seconds
            for index, frames in enumerate(result.frames):
                with this.phase("write"), bad_input():
                    _write_one(this, frames, batch, index)
                this.num_written += 1


def _preview(this: Run, pipeline: Pipeline, num_steps: int) -> Callable[[int, Mapping[str, Any], VideoRequest], None]:
    """Return the function that updates the preview after a step; a no-op without --preview."""
    path = this.options.preview
    if path is None:
        return lambda step, state, batch: None
    from videocrafter.cli.generate.preview import PreviewWriter
    from videocrafter.pipelines.preview import LatentPreview

    with this.phase("preview"):
        writer = PreviewWriter(path, this.options.preview_every, LatentPreview.fit(pipeline.vae))

    def draw(step: int, state: Mapping[str, Any], batch: VideoRequest) -> None:
        with this.phase("preview"), bad_input():
            writer.after_step(step, num_steps, state, batch.prompts)

    return draw


def _images(this: Run, pipeline: Pipeline, batch: VideoRequest) -> list[np.ndarray] | None:
    """Return the input images of the batch that follows the videos written so far."""
    first = this.num_written
    # Interpolation has both images already.
    if not pipeline.takes_image or this.options.image_end is not None or this.row(first).image is None:
        return None
    rows = [this.row(first + index) for index in range(batch.num_videos)]
    return [this.inputs.image(row.image) for row in rows if row.image is not None]


def _write_one(this: Run, frames: np.ndarray, batch: VideoRequest, index: int) -> None:
    from videocrafter.media.contact_sheet import evenly_spaced
    from videocrafter.media.video_file import write_video

    path, playback_fps = this.outputs[this.num_written], _playback_fps(this, batch.fps[index])
    recording = record_of_video(batch, index, this.row(this.num_written), this.options, this.inputs, playback_fps)
    recording |= this.recording
    overwrite = this.options.overwrite or is_empty_folder(path)
    write_video(path, frames, playback_fps, recording, overwrite=overwrite, codec=this.options.codec)
    prompt, seed = batch.prompts[index], batch.seeds[index]
    if this.options.contact_sheet is not None:
        this.for_sheet.append((evenly_spaced(frames, _SHEET_COLUMNS), f"seed {seed}: {prompt}"))
    about = f"{len(frames)} frames of {frames.shape[2]}x{frames.shape[1]}, {playback_fps:g} fps"
    typer.echo(path if this.options.quiet else f"{path}: {about}, seed {seed}")


def _write_contact_sheet(this: Run, path: Path) -> None:
    from videocrafter.media.contact_sheet import contact_sheet
    from videocrafter.media.image_file import write_image

    with this.phase("write"), bad_input():
        videos, captions = zip(*this.for_sheet, strict=True)
        write_image(path, contact_sheet(videos, captions), overwrite=this.options.overwrite)
    typer.echo(path if this.options.quiet else f"{path}: contact sheet")
