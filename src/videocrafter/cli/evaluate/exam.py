"""The exam of `videocrafter evaluate`: examine a model on held-out prompts and write a report."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from videocrafter.cli.errors import bad_input, naming_settings
from videocrafter.cli.interruption import reporting_interruption
from videocrafter.cli.model_choice import model_folder
from videocrafter.cli.progress_bar import progress_bar
from videocrafter.pipelines.model_folder import check_model_folder

if TYPE_CHECKING:
    import torch

    from videocrafter.pipelines.image_to_video import ImageToVideoPipeline
    from videocrafter.pipelines.text_to_video import TextToVideoPipeline

_OPTION_OF = {
    "num_prompts": "--prompts",
    "seed": "--seed",
    "batch_size": "--batch-size",
    "num_inference_steps": "--steps",
    "guidance_scale": "--guidance",
}


@dataclass(frozen=True, kw_only=True)
class ExamOptions:
    """The options of the command that the exam takes; see `--help`."""

    model: str
    output: Path
    i2v: str | None
    judge: Path | None
    second_judge: Path | None
    num_prompts: str | None
    quick: bool
    seed: int
    batch_size: int
    steps: int | None
    guidance: float | None
    device: str
    overwrite: bool


def run_exam_command(options: ExamOptions) -> None:
    """Examine a model on held-out prompts: print a table, write report.json and contact sheets."""
    with bad_input():
        t2v_folder = model_folder(options.model, "t2v")
        i2v_folder = None if options.i2v is None else model_folder(options.i2v, "i2v")
        for folder in (t2v_folder, i2v_folder):
            if folder is not None:
                check_model_folder(folder)

    from videocrafter.cli.quiet_libraries import silence_libraries
    from videocrafter.evaluation.exam.exam import ExamConfig, run_exam
    from videocrafter.evaluation.exam.judging import judge_folder, load_judge
    from videocrafter.evaluation.exam.report import check_report_folder, summary
    from videocrafter.generation.hardware import choose_device
    from videocrafter.media.errors import MediaError

    silence_libraries()
    with bad_input(), naming_settings(_OPTION_OF):
        length = ExamConfig.quick() if options.quick else ExamConfig()
        output = options.output
        config = replace(
            length,
            num_prompts=length.num_prompts if options.num_prompts is None else _number(options.num_prompts),
            seed=options.seed,
            batch_size=options.batch_size,
            num_inference_steps=options.steps,
            guidance_scale=options.guidance,
        )
        where = choose_device(options.device)
        examiner = load_judge(judge_folder(options.judge))
        second = None if options.second_judge is None else load_judge(judge_folder(options.second_judge))
        check_report_folder(output, overwrite=options.overwrite)
        text, image = _load_pipelines(t2v_folder, i2v_folder, where)
        for pipeline in (text, image):
            if pipeline is not None:
                pipeline.check_inputs("", num_inference_steps=options.steps, guidance_scale=options.guidance)
    with progress_bar("videos") as show, reporting_interruption(lambda: unfinished), bad_input(MediaError):
        unfinished = "No video was generated, and no report was written."

        def on_progress(done: int, total: int) -> None:
            nonlocal unfinished
            unfinished = f"{done} of {total} videos are finished; run the same command again to resume."
            show(done, total)

        report = run_exam(
            output,
            text,
            image,
            config=config,
            judge=examiner,
            second_judge=second,
            overwrite=options.overwrite,
            on_progress=on_progress,
        )
    typer.echo(f"{summary(report)}\nPage: {output / 'report.html'}; all numbers: {output / 'report.json'}")


def _number(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"--prompts is {text!r}; the exam writes its own prompts and takes their number") from None


def _load_pipelines(
    t2v_folder: Path, i2v_folder: Path | None, device: torch.device
) -> tuple[TextToVideoPipeline, ImageToVideoPipeline | None]:
    """Load the pipelines with their own progress bars disabled."""
    from videocrafter.pipelines.image_to_video import ImageToVideoPipeline
    from videocrafter.pipelines.loading import load_pipeline
    from videocrafter.pipelines.text_to_video import TextToVideoPipeline

    text = load_pipeline(t2v_folder, device=device, expect=TextToVideoPipeline)
    text.set_progress_bar_config(disable=True)
    if i2v_folder is None:
        return text, None
    image = load_pipeline(i2v_folder, device=device, expect=ImageToVideoPipeline)
    image.set_progress_bar_config(disable=True)
    return text, image
