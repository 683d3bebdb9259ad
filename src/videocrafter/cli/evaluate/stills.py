"""The stills mode of `videocrafter evaluate`: how many subjects the judge recognises in single pictures."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from videocrafter.cli.errors import bad_input, naming_settings
from videocrafter.cli.progress_bar import progress_bar
from videocrafter.presets import MODEL_INDEX, is_run_folder, result_of_run

if TYPE_CHECKING:
    from videocrafter.evaluation.exam.stills import Still
    from videocrafter.models.judge import VideoJudge
    from videocrafter.pipelines.text_to_video import TextToVideoPipeline

_NUM_STILLS = 96
_SHOWN = 48
_OPTION_OF = {"num_inference_steps": "--steps", "guidance_scale": "--guidance"}


@dataclass(frozen=True, kw_only=True)
class StillsOptions:
    """The options of the command that stills take; see `--help`."""

    what: str
    output: Path
    judge: Path | None
    num_stills: str | None
    seed: int
    batch_size: int
    steps: int | None
    guidance: float | None
    device: str
    overwrite: bool


def run_stills_command(options: StillsOptions) -> None:
    """Score stills by the judge: print the share, write report.json and a contact sheet."""
    from videocrafter.cli.quiet_libraries import silence_libraries
    from videocrafter.evaluation.exam.judging import judge_folder, load_judge
    from videocrafter.evaluation.exam.stills import score_stills
    from videocrafter.evaluation.exam.stills_report import check_stills_folder, write_stills_report
    from videocrafter.evaluation.model_identity import describe_model
    from videocrafter.media.errors import MediaError

    silence_libraries()
    shown: list[Still] = []

    def keep_first(stills: Iterable[Still]) -> Iterator[Still]:
        for still in stills:
            if len(shown) < _SHOWN:
                shown.append(still)
            yield still

    with bad_input(), naming_settings(_OPTION_OF):
        judge = load_judge(judge_folder(options.judge))
        stills, total, settings = _stills(options, judge)
        check_stills_folder(options.output, overwrite=options.overwrite)
    with progress_bar("stills") as show, bad_input(MediaError):
        score = score_stills(judge, keep_first(stills), lambda done: show(done, total))
        identity = {"source": options.what, "judge": describe_model(judge)["weights_sha256"], **settings}
        write_stills_report(options.output, score, shown, identity)
    found = score.recognised
    interval = "" if found.low is None or found.high is None else f" ({found.low:.1%} to {found.high:.1%})"
    typer.echo(f"recognised: {found.value:.1%}{interval} of {found.num_prompts} stills")
    typer.echo(f"Contact sheet: {options.output / 'stills.png'}; all answers: {options.output / 'report.json'}")


def _stills(options: StillsOptions, judge: VideoJudge) -> tuple[Iterable[Still], int, dict[str, Any]]:
    """Return the stills, read or generated one after another, their number, and the settings of a model."""
    from videocrafter.evaluation.exam.questions import ExamWorld
    from videocrafter.evaluation.exam.stills import PICTURES, generate_stills, holds_pictures, read_stills

    path = Path(options.what)
    if holds_pictures(path):
        total = sum(file.suffix.lower() in PICTURES for file in path.iterdir())
        return read_stills(path, judge.config.subjects), total, {}
    pipeline = _pipeline(options)
    count = _NUM_STILLS if options.num_stills is None else _number(options.num_stills)
    request = pipeline.check_inputs("", num_inference_steps=options.steps, guidance_scale=options.guidance)
    settings = {name: getattr(request.sampling, name) for name in _OPTION_OF}
    world = ExamWorld.of_judge(judge)
    stills = generate_stills(pipeline, world, count, seed=options.seed, batch_size=options.batch_size, **settings)
    return stills, count, {"seed": options.seed, **settings}


def _pipeline(options: StillsOptions) -> TextToVideoPipeline:
    """Load a text-to-video pipeline, or make one of an image network in Stable Diffusion's format."""
    from videocrafter.checkpoints.stable_diffusion.initialisation import init_from_sd
    from videocrafter.generation.hardware import choose_device
    from videocrafter.pipelines.loading import load_pipeline
    from videocrafter.pipelines.text_to_video import TextToVideoPipeline

    where, path = choose_device(options.device), Path(options.what)
    folder = result_of_run(path) if is_run_folder(path) else path
    if (folder / "unet").is_dir() and not (folder / MODEL_INDEX).is_file():
        with tempfile.TemporaryDirectory() as scratch:
            made = init_from_sd(folder, Path(scratch) / "model", preset="tiny-t2v").folder
            pipeline = load_pipeline(made, device=where, expect=TextToVideoPipeline)
    else:
        pipeline = load_pipeline(options.what, device=where, expect=TextToVideoPipeline)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def _number(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise ValueError(f"--prompts is {text!r}; for stills it is their number, at least 1")
    return int(text)
