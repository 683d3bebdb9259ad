"""The run behind `videocrafter generate`: check, load, generate in batches, write, say what was done."""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from videocrafter.cli.errors import bad_input
from videocrafter.cli.generate_outputs import check_outputs, is_empty_folder, plan_outputs
from videocrafter.cli.generate_request import GenerateOptions
from videocrafter.presets import resolve_model

if TYPE_CHECKING:
    import numpy as np
    from rich.console import Console

    from videocrafter.pipelines.image_to_video import ImageToVideoPipeline
    from videocrafter.pipelines.settings import VideoRequest
    from videocrafter.pipelines.text_to_video import TextToVideoPipeline

    Pipeline = TextToVideoPipeline | ImageToVideoPipeline

_LARGEST_SEED = 2**32
_CAPTION_LENGTH = 80


@dataclass
class Run:
    """What the phases of one run hand on to each other."""

    options: GenerateOptions
    folder: Path
    outputs: list[Path]
    console: Console
    image: np.ndarray | None = None
    recording: dict[str, Any] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    for_sheet: list[tuple[np.ndarray, str]] = field(default_factory=list)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Add the time spent inside to the phase `name`."""
        start = time.perf_counter()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start

    @property
    def hides_progress(self) -> bool:
        """Moving lines are for people: not when asked to be quiet, and not into a file."""
        return self.options.quiet or not self.console.is_terminal

    def status(self, text: str) -> AbstractContextManager[Any]:
        """A moving line while something takes its time."""
        return nullcontext() if self.hides_progress else self.console.status(text)

    def note(self, text: str) -> None:
        """Print one line for the user to know, unless asked to be quiet."""
        if not self.options.quiet:
            self.console.print(f"note: {text}", markup=False, soft_wrap=True)


def run(options: GenerateOptions) -> None:
    """Make and write all videos that were asked for, or say in one line why not."""
    this = _prepare(options)
    with this.phase("imports and model"):
        pipeline = _load(this)
    with bad_input():
        request = _request(this, pipeline)
    for text in pipeline.notes(request):
        this.note(text)
    _record_settings(this, pipeline, request)
    _generate_and_write(this, pipeline, request)
    if options.contact_sheet is not None:
        _write_contact_sheet(this, options.contact_sheet)
    if not options.quiet:
        shown = " · ".join(f"{name} {seconds:.1f} s" for name, seconds in this.seconds.items())
        typer.echo(shown)


def _prepare(options: GenerateOptions) -> Run:
    """Everything that can be refused before the heavy libraries are imported."""
    from rich.console import Console

    with bad_input():
        folder = resolve_model(options.model_name, options.task)
        outputs = plan_outputs(options.output, options.num_outputs)
        check_outputs(outputs, options.contact_sheet, options.playback_fps, options.overwrite)
        this = Run(options, folder, outputs, Console(stderr=True, highlight=False))
        if options.image is not None:
            from videocrafter.media.image_file import read_image

            this.image = read_image(options.image)
            this.recording["image"] = str(options.image.absolute())
            this.recording["image_sha256"] = hashlib.sha256(options.image.read_bytes()).hexdigest()
            if options.expected_image_sha256 not in (None, this.recording["image_sha256"]):
                raise ValueError(
                    f"{options.image} has changed since the video was made; give the picture with --image"
                )
    return this


def _load(this: Run) -> Pipeline:
    """Import, load and set up the pipeline: scheduler, device and precision as asked."""
    from videocrafter.pipelines.model_folder import PIPELINE_TASKS, check_model_folder, fingerprint

    options = this.options
    with bad_input():
        index = check_model_folder(this.folder)
        if PIPELINE_TASKS[index["_class_name"]] != options.task:
            trouble = "needs an image (--image)" if options.task == "t2v" else "takes no image"
            raise ValueError(f"the model {options.model_name} {trouble}")
        this.recording["model_hash"] = fingerprint(this.folder)
        if options.expected_model_hash not in (None, this.recording["model_hash"]):
            this.note(f"the model {options.model_name} has changed since the video was made; expect another video")
    with this.status("loading the model"), bad_input():
        from videocrafter.cli.hardware import choose_device, choose_dtype
        from videocrafter.cli.quiet_libraries import silence_libraries
        from videocrafter.diffusion.schedulers import build_scheduler
        from videocrafter.pipelines.loading import load_pipeline

        silence_libraries()
        device, dtype = choose_device(options.device), choose_dtype(options.dtype)
        pipeline = load_pipeline(this.folder, device=device, dtype=dtype)
        if options.scheduler is not None:
            pipeline.scheduler = build_scheduler(options.scheduler, pipeline.scheduler.config)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def _request(this: Run, pipeline: Pipeline) -> VideoRequest:
    options = this.options
    seed = secrets.randbelow(_LARGEST_SEED) if options.seed is None else options.seed
    request = pipeline.check_inputs(
        list(options.prompts),
        options.negative_prompt,
        num_frames=options.num_frames,
        height=options.height,
        width=options.width,
        fps=options.fps,
        num_inference_steps=options.num_inference_steps,
        guidance_scale=options.guidance_scale,
        guidance_rescale=options.guidance_rescale,
        eta=options.eta,
        seeds=seed,
        num_videos_per_prompt=options.num_videos,
    )
    if this.image is not None:
        from videocrafter.pipelines.image_to_video import image_to_tensor
        from videocrafter.pipelines.settings import check_at_least

        image_to_tensor(this.image)
        check_at_least("--image-scale", 1.0 if options.image_scale is None else options.image_scale, 0.0)
    playback_fps = options.playback_fps or request.fps[0]
    check_outputs(this.outputs, None, playback_fps, options.overwrite)
    return request


def _record_settings(this: Run, pipeline: Pipeline, request: VideoRequest) -> None:
    """What all videos of the run have in common; prompt and seed are added for each."""
    from videocrafter.pipelines.versions import versions

    options = this.options
    defaults = pipeline.generation_defaults
    model_path = Path(options.model_name)
    this.recording |= {
        "task": options.task,
        "model": str(model_path.absolute()) if model_path.is_dir() else options.model_name,
        "negative_prompt": request.negative_prompts[0],
        "num_frames": request.num_frames,
        "height": request.height,
        "width": request.width,
        "fps": request.fps[0],
        "playback_fps": options.playback_fps or request.fps[0],
        "num_inference_steps": request.num_inference_steps,
        "guidance_scale": request.guidance_scale,
        "guidance_rescale": request.guidance_rescale,
        "eta": request.eta,
        "scheduler": options.scheduler,
        "scheduler_class": type(pipeline.scheduler).__name__,
        "device": str(pipeline.device),
        "dtype": str(pipeline.dtype).removeprefix("torch."),
        "versions": versions(),
    }
    if options.image is not None:
        given = options.image_scale
        this.recording["image_scale"] = defaults.image_scale if given is None else given


def _generate_and_write(this: Run, pipeline: Pipeline, request: VideoRequest) -> None:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    batches = request.split(this.options.batch_size)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    done = 0
    with Progress(*columns, console=this.console, disable=this.hides_progress, transient=True) as progress:
        bar = progress.add_task("denoising", total=len(batches) * len(pipeline.scheduler.timesteps))

        def on_step_end(*_: Any) -> None:
            progress.advance(bar)

        for batch in batches:
            arguments: dict[str, Any] = {"callback_on_step_end": on_step_end}
            if this.image is not None:
                arguments |= {"image": this.image, "image_scale": this.options.image_scale}
            result = pipeline.generate(batch, **arguments)
            for name, seconds in result.seconds.items():
                this.seconds[name] = this.seconds.get(name, 0.0) + seconds
            for index, frames in enumerate(result.frames):
                with this.phase("write"), bad_input():
                    _write_one(this, this.outputs[done], frames, batch.prompts[index], batch.seeds[index])
                done += 1


def _write_one(this: Run, path: Path, frames: np.ndarray, prompt: str, seed: int | None) -> None:
    from videocrafter.media.video_file import write_video

    recording = {"prompt": prompt, "seed": seed, **this.recording}
    overwrite = this.options.overwrite or is_empty_folder(path)
    write_video(path, frames, this.recording["playback_fps"], recording, overwrite=overwrite)
    if this.options.contact_sheet is not None:
        this.for_sheet.append((frames, f"{prompt[:_CAPTION_LENGTH]} (seed {seed})"))
    about = f"{len(frames)} frames of {frames.shape[2]}x{frames.shape[1]}, {this.recording['playback_fps']:g} fps"
    typer.echo(path if this.options.quiet else f"{path}: {about}, seed {seed}")


def _write_contact_sheet(this: Run, path: Path) -> None:
    from videocrafter.media.contact_sheet import contact_sheet
    from videocrafter.media.image_file import write_image

    with this.phase("write"), bad_input():
        videos, captions = zip(*this.for_sheet, strict=True)
        write_image(path, contact_sheet(videos, captions), overwrite=this.options.overwrite)
    typer.echo(path if this.options.quiet else f"{path}: contact sheet")
