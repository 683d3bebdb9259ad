"""`videocrafter evaluate`: evaluate a model on held-out prompts and write a report."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from videocrafter.cli.errors import bad_input
from videocrafter.cli.interruption import reporting_interruption
from videocrafter.cli.model_choice import model_folder
from videocrafter.cli.progress_bar import progress_bar
from videocrafter.pipelines.model_folder import check_model_folder
from videocrafter.presets import FAMILIES, PRESETS, is_run_folder, result_of_run

if TYPE_CHECKING:
    import torch

    from videocrafter.pipelines.image_to_video import ImageToVideoPipeline
    from videocrafter.pipelines.text_to_video import TextToVideoPipeline


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command("evaluate")(evaluate)


def evaluate(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="Name (such as tiny) or folder of a text-to-video model.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the report and the contact sheets.")],
    i2v: Annotated[
        str | None,
        typer.Option(
            "--i2v", help="Image-to-video model to evaluate as well; default: tiny-i2v for tiny, otherwise none."
        ),
    ] = None,
    judge: Annotated[
        Path | None,
        typer.Option(
            "--judge",
            help="Folder or training run of the judge (a classifier); default: the shipped judge.",
        ),
    ] = None,
    num_prompts: Annotated[
        int | None, typer.Option("--prompts", help="Number of held-out prompts; default: 240, or 28 with --quick.")
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Use a tenth of the prompts: a quick estimate with large errors.")
    ] = False,
    seed: Annotated[int, typer.Option("--seed", help="Seed of prompts, images and videos.")] = 0,
    batch_size: Annotated[int, typer.Option("--batch-size", help="Videos per batch.")] = 8,
    steps: Annotated[int | None, typer.Option("--steps", help="Sampling steps; default: the model's.")] = None,
    guidance: Annotated[
        float | None, typer.Option("--guidance", help="Guidance scale; default: the model's.")
    ] = None,
    device: Annotated[str, typer.Option("--device", help="cpu, cuda, mps or auto.")] = "auto",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing report.")] = False,
) -> None:
    """Evaluate a model on held-out prompts: print a table, write report.json and contact sheets."""
    with bad_input():
        t2v_folder = model_folder(model, "t2v")
        i2v_folder = _image_model(model, i2v)
        for folder in (t2v_folder, i2v_folder):
            if folder is not None:
                check_model_folder(folder)

    from videocrafter.cli.quiet_libraries import silence_libraries
    from videocrafter.evaluation.exam.exam import ExamConfig, run_exam
    from videocrafter.evaluation.exam.judging import load_judge
    from videocrafter.evaluation.exam.report import check_report_folder, markdown
    from videocrafter.generation.hardware import choose_device
    from videocrafter.media.errors import MediaError

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
        examiner = load_judge(judge if judge is None or not is_run_folder(judge) else result_of_run(judge))
        check_report_folder(output, overwrite=overwrite)
        text, image = _load_pipelines(t2v_folder, i2v_folder, where)
    with progress_bar("videos") as show, reporting_interruption(lambda: unfinished), bad_input(MediaError):
        unfinished = "No video was evaluated, and no report was written."

        def on_progress(done: int, total: int) -> None:
            nonlocal unfinished
            unfinished = f"{done} of {total} videos were evaluated; no report was written."
            show(done, total)

        report = run_exam(
            output, text, image, config=config, judge=examiner, overwrite=overwrite, on_progress=on_progress
        )
    summary, *_details = markdown(report).split("\n## ")
    typer.echo(f"{summary}\nAll results: {output / 'report.json'}; tables: {output / 'report.md'}")


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


def _image_model(model: str, i2v: str | None) -> Path | None:
    """Return the folder of the given image-to-video model, or of the family's if it is installed."""
    if i2v is not None:
        return model_folder(i2v, "i2v")
    if model in FAMILIES and PRESETS[FAMILIES[model]["i2v"]].is_installed:
        return model_folder(model, "i2v")
    return None
