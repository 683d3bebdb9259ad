"""`videocrafter evaluate`: put a model through the exam and write its report."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from videocrafter.cli.errors import bad_input
from videocrafter.cli.model_choice import model_folder
from videocrafter.pipelines.model_folder import check_model_folder
from videocrafter.presets import FAMILIES, PRESETS


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command("evaluate")(evaluate)


def evaluate(
    model: Annotated[str, typer.Argument(help="A model (tiny) or the folder of a text-to-video pipeline.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the report and the contact sheets.")],
    i2v: Annotated[
        str | None, typer.Option("--i2v", help="Image-to-video model to examine too; for tiny: tiny-i2v.")
    ] = None,
    judge: Annotated[
        Path | None, typer.Option("--judge", help="Folder of a judge, such as RUN/final; default: the package's.")
    ] = None,
    num_prompts: Annotated[
        int | None, typer.Option("--prompts", help="Held-out prompts for the accuracies; default: 240.")
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="A tenth of the questions: a first impression, with large errors.")
    ] = False,
    seed: Annotated[int, typer.Option("--seed", help="Seed of prompts, images and videos.")] = 0,
    batch_size: Annotated[int, typer.Option("--batch-size", help="Videos made together.")] = 8,
    steps: Annotated[int | None, typer.Option("--steps", help="Denoising steps; default: the model's.")] = None,
    guidance: Annotated[float | None, typer.Option("--guidance", help="Default: the model's.")] = None,
    device: Annotated[str, typer.Option("--device", help="cpu, cuda, mps or auto.")] = "auto",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a report that is there.")] = False,
) -> None:
    """Examine a model on held-out prompts; prints a table and writes DIR/report.json and contact sheets."""
    with bad_input():
        t2v_folder = model_folder(model, "t2v")
        i2v_folder = _image_model(model, i2v)
        for folder in (t2v_folder, i2v_folder):
            if folder is not None:
                check_model_folder(folder)

    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from videocrafter.cli.hardware import choose_device
    from videocrafter.cli.quiet_libraries import silence_libraries
    from videocrafter.evaluation.exam import ExamConfig, run_exam
    from videocrafter.evaluation.judging import load_judge
    from videocrafter.evaluation.report import check_report_folder, markdown
    from videocrafter.media.errors import MediaError
    from videocrafter.pipelines.image_to_video import ImageToVideoPipeline
    from videocrafter.pipelines.loading import load_pipeline
    from videocrafter.pipelines.text_to_video import TextToVideoPipeline

    silence_libraries()
    with bad_input():
        length = ExamConfig.quick() if quick else ExamConfig()
        config = replace(
            length,
            num_prompts=length.num_prompts if num_prompts is None else num_prompts,
            seed=seed,
            batch_size=batch_size,
            num_inference_steps=steps,
            guidance_scale=guidance,
        )
        where = choose_device(device)
        examiner = load_judge(judge)
        check_report_folder(output, overwrite=overwrite)
        text = load_pipeline(t2v_folder, device=where, expect=TextToVideoPipeline)
        picture = None
        if i2v_folder is not None:
            picture = load_pipeline(i2v_folder, device=where, expect=ImageToVideoPipeline)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as progress:
        bar = progress.add_task("videos", total=None)
        for pipeline in (text, picture):
            if pipeline is not None:
                pipeline.set_progress_bar_config(disable=True)
        with bad_input(MediaError):
            report = run_exam(
                output,
                text,
                picture,
                config=config,
                judge=examiner,
                overwrite=overwrite,
                on_progress=lambda done, total: progress.update(bar, completed=done, total=total),
            )
    summary, *_details = markdown(report).split("\n## ")
    typer.echo(f"{summary}\n{output / 'report.json'}: every number, with tables in report.md")


def _image_model(model: str, i2v: str | None) -> Path | None:
    """The image-to-video model to examine: the one asked for, or the family's if it is installed."""
    if i2v is not None:
        return model_folder(i2v, "i2v")
    if model in FAMILIES and PRESETS[FAMILIES[model]["i2v"]].is_installed:
        return model_folder(model, "i2v")
    return None
