"""Run `videocrafter generate`: show the run's progress in the terminal, and report its errors in one line."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from videocrafter.cli.errors import bad_input
from videocrafter.cli.garbage_collection import importing_without_collection
from videocrafter.cli.generate.naming import naming_options
from videocrafter.cli.generate.quoting import splits_sentence
from videocrafter.cli.interruption import interruption_held_back, reporting_interruption
from videocrafter.cli.model_choice import model_folder
from videocrafter.generation.errors import GenerationError, NotEnoughMemoryError, expecting
from videocrafter.generation.outputs import plan_outputs
from videocrafter.generation.processes import ALONE, ProcessShare, join
from videocrafter.generation.request import GenerateOptions, PromptRow
from videocrafter.generation.run import LARGEST_SEED, generate, load, prepare
from videocrafter.generation.watcher import SamplingStep, Watcher, WrittenVideo

if TYPE_CHECKING:
    import numpy as np

    from videocrafter.cli.generate.preview import PreviewWriter

_SHEET_COLUMNS = 32
_FEW = 4


class _Terminal(Watcher):
    """Shows this process's share of a run on standard error, and the names of its videos on standard output."""

    def __init__(self, options: GenerateOptions, share: ProcessShare = ALONE) -> None:
        super().__init__()
        from rich.console import Console

        self.options, self.share = options, share
        self.console = Console(stderr=True, highlight=False)
        planned = plan_outputs(options.output, options.num_outputs) if share.writes else []
        self.outputs = [path for place, path in enumerate(planned) if share.makes(place // options.batch_size)]
        self.num_written = 0
        self.for_sheet: list[tuple[np.ndarray, str]] = []
        self._progress = self._new_progress()
        self._preview: PreviewWriter | None = None

    def _new_progress(self) -> Any:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        return Progress(*columns, console=self.console, disable=self._hides_progress, transient=True)

    @property
    def _hides_progress(self) -> bool:
        """Whether to show no spinner or progress bar: with --quiet, or when output goes to a file."""
        return self.options.quiet or not self.console.is_terminal

    def status(self, text: str) -> AbstractContextManager[Any]:
        """Show a spinner."""
        return nullcontext() if self._hides_progress else self.console.status(text)

    def note(self, text: str) -> None:
        """Print a note for the user, unless --quiet is given."""
        if not self.options.quiet:
            self.console.print(f"note: {text}", markup=False, soft_wrap=True)

    def begin(self, pipeline: Any, total: int) -> None:
        """Start the progress bar, and the preview if one is wanted."""
        if self.options.preview is not None:
            from videocrafter.cli.generate.preview import PreviewWriter
            from videocrafter.pipelines.preview import LatentPreview

            with self.phase("preview"):
                preview = LatentPreview.fit(pipeline.vae)
            self._preview = PreviewWriter(self.options.preview, self.options.preview_every, preview)
        self._progress.start()
        self._bar = self._progress.add_task("denoising", total=total)

    def after_step(self, step: SamplingStep) -> None:
        """Advance the progress bar and update the preview."""
        self._progress.update(self._bar, completed=step.done)
        if self._preview is not None:
            with self.phase("preview"), expecting():
                self._preview.after_step(step.number - 1, step.num_steps, step.state, step.batch.prompts)

    def uninterrupted(self) -> AbstractContextManager[Any]:
        """Hold back Ctrl-C, so that a written video is reported as written."""
        return interruption_held_back()

    def written(self, video: WrittenVideo) -> None:
        """Print the name of a video, and keep its frames for the contact sheet."""
        from videocrafter.media.contact_sheet import evenly_spaced

        self.num_written += 1
        frames, recording = video.frames, video.recording
        if self.options.contact_sheet is not None:
            caption = f"seed {recording['seed']}: {recording['prompt']}"
            self.for_sheet.append((evenly_spaced(frames, _SHEET_COLUMNS), caption))
        size = f"{len(frames)} frames of {frames.shape[2]}x{frames.shape[1]}"
        about = f"{size}, {recording['playback_fps']:g} fps, seed {recording['seed']}"
        typer.echo(video.path if self.options.quiet else f"{video.path}: {about}")

    def close(self) -> None:
        """Remove the progress bar."""
        self._progress.stop()

    def unfinished(self) -> str:
        """Describe what was written and what was not, for an interrupted run."""
        names = [str(path) for path in self.outputs]
        if not names:
            return ""
        who = f"Process {self.share.index + 1} of {self.share.count}: " if self.share.count > 1 else ""
        if not self.num_written:
            return f"{who}No video was written; not generated: {_range_of(names)}."
        return (
            f"{who}Written: {_range_of(names[: self.num_written])}; not generated:"
            f" {_range_of(names[self.num_written :]) or 'nothing'}."
        )


def _range_of(names: Sequence[str]) -> str:
    """Name a few files, or the first and the last of many."""
    return " … ".join((names[0], names[-1])) if len(names) > _FEW else ", ".join(names)


def run(options: GenerateOptions) -> None:
    """Generate and write all videos. Wrong input ends the program with a one-line error."""
    with bad_input(GenerationError), naming_options(), _offering_to_ignore_memory():
        options, share = join(options, partial(secrets.randbelow, LARGEST_SEED))
        watcher = _Terminal(options, share)
        _note_split_prompt(watcher)
        # All are prepared before one writes: its files would look to others like files that exist already.
        prepared = share.first_alone(partial(prepare, options, obtain=partial(model_folder, quiet=options.quiet)))
        with reporting_interruption(watcher.unfinished):
            with watcher.phase("imports and model"), watcher.status("loading the model"):
                with importing_without_collection():
                    import videocrafter.pipelines.loading  # noqa: F401
                    from videocrafter.cli.quiet_libraries import silence_libraries

                silence_libraries()
                pipeline = load(prepared, watcher)
            share.prepare_pipeline(pipeline)
            try:
                generate(prepared, pipeline, watcher, share)
            finally:
                watcher.close()
            if options.contact_sheet is not None and share.writes:
                _write_contact_sheet(watcher, options.contact_sheet)
    if not options.quiet:
        typer.echo(" · ".join(f"{name} {seconds:.1f} s" for name, seconds in watcher.seconds.items()))


@contextmanager
def _offering_to_ignore_memory() -> Iterator[None]:
    try:
        yield
    except NotEnoughMemoryError as error:
        if error.is_estimate:
            error.args = (f"{error}; `ignore_memory` skips this check",)
        raise


def _note_split_prompt(watcher: _Terminal) -> None:
    rows = watcher.options.rows
    prompts = [row.prompt for row in rows]
    if all(row.where == PromptRow.where for row in rows) and splits_sentence(prompts):
        watcher.note(
            f"these are {len(prompts)} prompts of one word each; if they are one prompt, put it in quotes:"
            f' "{" ".join(prompts)}"'
        )


def _write_contact_sheet(watcher: _Terminal, path: Path) -> None:
    from videocrafter.media.contact_sheet import contact_sheet
    from videocrafter.media.image_file import write_image

    with watcher.phase("write"), expecting():
        videos, captions = zip(*watcher.for_sheet, strict=True)
        write_image(path, contact_sheet(videos, captions), overwrite=watcher.options.overwrite)
    typer.echo(path if watcher.options.quiet else f"{path}: contact sheet")
