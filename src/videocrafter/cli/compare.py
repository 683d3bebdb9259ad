"""`videocrafter compare`: models and folders of videos side by side, on one page."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from videocrafter.cli.errors import bad_input
from videocrafter.cli.interruption import reporting_interruption
from videocrafter.cli.named_sets import named_sets
from videocrafter.cli.progress_bar import progress_bar
from videocrafter.presets import FAMILIES, MODEL_INDEX, PRESETS, is_run_folder

if TYPE_CHECKING:
    from videocrafter.evaluation.comparison.columns import ModelColumn
    from videocrafter.evaluation.prompt_list import PromptItem
    from videocrafter.evaluation.video_set import VideoSet

_VIDEOS = "videos"


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command("compare")(compare)


def compare(
    what: Annotated[
        list[str],
        typer.Argument(
            metavar="[NAME=]WHAT[@SETTING=VALUE,…]…",
            help="The columns: folders or tables of videos, or models, such as tiny or few=tiny-t2v@steps=4.",
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the page.")],
    prompts: Annotated[
        Path | None,
        typer.Option(help="Prompts to show: one per line, or a table with prompt, seed, image. Models need it."),
    ] = None,
    versions: Annotated[
        bool, typer.Option("--versions", metavar="", help="Show each stage of a training run as a column.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Seed of generated videos, unless the prompts state seeds.")] = 0,
    title: Annotated[str, typer.Option(help="Heading of the page.")] = "Comparison",
    size: Annotated[int, typer.Option(help="Longest side of the shown frames, in pixels.")] = 512,
    max_frames: Annotated[int, typer.Option(help="Frames of each video to show.")] = 128,
    embed: Annotated[
        bool | None,
        typer.Option(
            "--embed/--no-embed", help="Put all pictures into the page, or next to it; default: up to 32 MB inside."
        ),
    ] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, mps or auto.")] = "auto",
    overwrite: Annotated[bool, typer.Option("--overwrite", metavar="", help="Replace an earlier page.")] = False,
) -> None:
    """Put models, versions, settings or folders of videos side by side: index.html and contact sheets.

    Rows are prompts. All videos play in step; single frames and differences can be seen. Models generate what is
    missing with equal seeds; run the same command again to resume.
    """
    from videocrafter.evaluation.comparison.cell_metrics import find_metrics, read_metrics
    from videocrafter.evaluation.comparison.matching import match_videos
    from videocrafter.evaluation.comparison.writing import PageSettings, check_comparison_folder, write_comparison
    from videocrafter.evaluation.prompt_list import read_prompt_list

    with bad_input():
        settings = PageSettings(title=title, size=size, max_frames=max_frames, embed=embed)
        items = None if prompts is None else read_prompt_list(prompts)
        columns = _columns(what, versions=versions)
        check_comparison_folder(output, overwrite=overwrite)
        sets = {name: _videos_of(name, one, items, output, seed, device) for name, one in columns.items()}
        for name, videos in sets.items():
            for problem in videos.problems:
                typer.echo(f"note: {name}: {problem.message}", err=True)
        found = {name: find_metrics(videos.root) for name, videos in sets.items()}
        metrics = {name: read_metrics(path) for name, path in found.items() if path is not None}
        rows = match_videos(sets, None if items is None else [item.prompt for item in items])
        with progress_bar("page") as show:
            written = write_comparison(
                rows, list(sets), output, settings, metrics=metrics, overwrite=overwrite, on_progress=show
            )
    typer.echo(f"{written[0]}: rows: {len(rows)}, columns: {len(sets)}")


def _columns(what: list[str], *, versions: bool) -> dict[str, Path | ModelColumn]:
    """Return a folder of videos or a model for each column."""
    from videocrafter.evaluation.comparison.columns import ModelColumn, parse_setting, stage_folders

    columns: dict[str, Path | ModelColumn] = {}
    named = named_sets(what)
    for name, (text, settings) in named.items():
        path = Path(text).expanduser()
        given = dict(map(parse_setting, settings))
        if versions:
            if not is_run_folder(path):
                raise ValueError(
                    f"{text} is not a training run; --versions shows the stages of runs, so leave it out"
                )
            for stage, one in stage_folders(path).items():
                column = stage if len(named) == 1 else f"{name}-{stage}"
                columns[column] = ModelColumn(model=str(one), settings=given)
        elif text in PRESETS or text in FAMILIES or is_run_folder(path) or (path / MODEL_INDEX).is_file():
            columns[name] = ModelColumn(model=text, settings=given)
        elif given:
            raise ValueError(f"{text} is not a model; settings after @ are for models, which generate their videos")
        else:
            columns[name] = path
    return columns


def _videos_of(
    name: str,
    column: Path | ModelColumn,
    items: tuple[PromptItem, ...] | None,
    output: Path,
    seed: int,
    device: str,
) -> VideoSet:
    """Read the videos of a column, after generating those that are missing."""
    from videocrafter.evaluation.generated_set import generate_set, prepare_set
    from videocrafter.evaluation.video_set import read_video_set

    if isinstance(column, Path):
        return read_video_set(column, items)
    if items is None:
        raise ValueError(f"{name} is a model, so it needs prompts to generate videos; pass --prompts FILE")
    from videocrafter.cli.model_choice import model_folder
    from videocrafter.cli.quiet_libraries import silence_libraries

    silence_libraries()
    folder = output / _VIDEOS / name
    unfinished = f"Finished videos are kept in {folder}; run the same command again to resume."

    def note(text: str) -> None:
        typer.echo(f"note: {name}: {text}", err=True)

    prepared = prepare_set(
        column.model,
        items,
        folder,
        seeds=(seed,),
        settings=column.settings,
        device=device,
        obtain=partial(model_folder, quiet=True),
        note=note,
    )
    with progress_bar(name) as show, reporting_interruption(lambda: unfinished):
        generate_set(prepared, on_progress=show, note=note)
    found = read_video_set(folder)
    # The folder may hold videos of an earlier run with more prompts or another seed.
    made = {path.name for path in prepared.paths}
    return replace(found, entries=tuple(entry for entry in found.entries if entry.name in made))
