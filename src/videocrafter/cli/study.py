"""`videocrafter study`: make a blind user study, serve it to raters, and report the votes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from videocrafter.cli.errors import bad_input, fail
from videocrafter.cli.named_sets import named_sets
from videocrafter.cli.progress_bar import progress_bar

if TYPE_CHECKING:
    from fastapi import FastAPI

    from videocrafter.evaluation.study.measurements import Measurements

study = typer.Typer(
    no_args_is_help=True,
    help="Ask people which videos they prefer: make a blind study, serve it, report the votes.",
)


def register(app: typer.Typer) -> None:
    """Add the group of commands to an app."""
    app.add_typer(study, name="study")


@study.command("new")
def new_command(
    systems: Annotated[
        list[str],
        typer.Argument(
            metavar="[NAME=]FOLDER…", help="Videos of each system: a folder or a table; NAME for the report."
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the study; must not exist.")],
    kind: Annotated[str, typer.Option(help="pairs (A, B or equal) or ratings (1 to 5).")] = "pairs",
    aspects: Annotated[
        str | None, typer.Option(help="Aspects to ask about, with commas; default: the four of the paper.")
    ] = None,
    prompts: Annotated[
        Path | None, typer.Option(help="Prompts to include: a file with one per line, or a table.")
    ] = None,
    title: Annotated[str, typer.Option(help="Heading of the page; must not name the systems.")] = "Video study",
    consent: Annotated[
        Path | None, typer.Option(help="Text file with the consent text; default: a short one.")
    ] = None,
    votes: Annotated[int, typer.Option(help="Raters per question.")] = 3,
    per_rater: Annotated[int | None, typer.Option(help="Questions per rater; default: all, but at most 30.")] = None,
    training: Annotated[int, typer.Option(help="Explained practice questions per rater.")] = 3,
    checks: Annotated[int, typer.Option(help="Attention checks per rater.")] = 3,
    invitations: Annotated[
        int, typer.Option(help="Personal links to prepare; default: everybody with the address may take part.")
    ] = 0,
    webm: Annotated[
        bool, typer.Option("--webm", metavar="", help="Serve WebM (VP9) instead of mp4 (H.264).")
    ] = False,
    seed: Annotated[int, typer.Option(help="Seed of orders, sides and checks.")] = 0,
) -> None:
    """Make a study from folders of videos. The copies for raters hold no metadata and have neutral names."""
    from videocrafter.data.text_files import decode_text
    from videocrafter.evaluation.comparison.matching import complete_rows, match_videos
    from videocrafter.evaluation.prompt_list import read_prompt_list
    from videocrafter.evaluation.study.design import CONSENT, PAPER_ASPECTS
    from videocrafter.evaluation.study.new_study import StudySettings, make_study
    from videocrafter.evaluation.video_set import read_video_set

    with bad_input():
        if votes < 1 or not 0 <= invitations <= 10_000:
            raise ValueError(
                f"--votes is {votes} and --invitations {invitations}; expected at least 1, and 0 to 10000"
            )
        named = named_sets(systems)
        if with_settings := [name for name, (_, settings) in named.items() if settings]:
            raise ValueError(f"{with_settings[0]}: settings after @ are for models; a study takes folders of videos")
        items = None if prompts is None else read_prompt_list(prompts)
        sets = {name: read_video_set(Path(what).expanduser(), items) for name, (what, _) in named.items()}
        chosen = None if items is None else [item.prompt for item in items]
        rows, notes = complete_rows(match_videos(sets, chosen), list(sets))
        for name, videos in sets.items():
            notes += [f"{name}: {problem.message}" for problem in videos.problems]
        for text in notes:
            typer.echo(f"note: {text}", err=True)
        settings = StudySettings(
            kind=kind,  # type: ignore[arg-type]  # checked by the design
            aspects=PAPER_ASPECTS if aspects is None else tuple(one.strip() for one in aspects.split(",")),
            title=title,
            consent=CONSENT if consent is None else decode_text(consent.read_bytes(), str(consent)).strip(),
            votes_per_item=votes,
            votes_per_rater=per_rater,
            training_per_rater=training,
            checks_per_rater=checks,
            invitations=invitations,
            seed=seed,
            suffix=".webm" if webm else ".mp4",
        )
        with progress_bar("copies") as show:
            made = make_study(rows, list(sets), output, settings, on_progress=show)
    for text in made.notes:
        typer.echo(f"note: {text}", err=True)
    design = made.design
    questions = sum(item.kind == "vote" for item in design.items)
    typer.echo(
        f"{output}: {questions} questions about {len(design.prompts)} prompts; {design.votes_per_rater} per rater, "
        f"about {design.minutes} minutes; up to {design.max_raters} raters"
    )
    typer.echo(f"Serve it: videocrafter study serve {output}")


@study.command("serve")
def serve_command(
    folder: Annotated[Path, typer.Argument(help="Folder of the study.")],
    host: Annotated[
        str, typer.Option(help="Address to listen on; 0.0.0.0 lets other machines reach the study.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.", min=1, max=65535)] = 7870,
) -> None:
    """Serve a study until Ctrl-C. Answers are in the study's folder before raters see them accepted."""
    with bad_input():
        app = _application(folder)
    address = "localhost" if host in ("127.0.0.1", "0.0.0.0", "::1") else host
    home = f"http://{address}:{port}/"
    typer.echo(f"Study: {home}  (Ctrl-C stops; answers are kept)")
    for line in _invitations(folder):
        typer.echo(f"Personal link: {home}{line}")
    import uvicorn

    # The access log would store the network addresses of raters.
    uvicorn.run(
        app, host=host, port=port, access_log=False, log_level="warning", server_header=False, timeout_keep_alive=75
    )


def _invitations(folder: Path) -> list[str]:
    """Return the ends of the personal links of a study by invitation, such as "#token"."""
    from videocrafter.evaluation.study.design import INVITATIONS_FILE

    path = folder / INVITATIONS_FILE
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    return [line.strip().removeprefix("/") for line in lines if line.strip()]


def _application(folder: Path) -> FastAPI:
    try:
        import fastapi  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError:
        fail("serving a study needs FastAPI and uvicorn: pip install 'videocrafter[web]'")
    from videocrafter.evaluation.study.server import study_app

    return study_app(folder)


@study.command("report")
def report_command(
    folder: Annotated[Path, typer.Argument(help="Folder of the study.")],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Folder of the report; default: report in the study's folder."),
    ] = None,
    metrics: Annotated[
        list[str] | None,
        typer.Option(
            help="Automatic metrics to calibrate: SYSTEM=FOLDER of an evaluation for each system, or a table of "
            "system, prompt, seed and one column per metric."
        ),
    ] = None,
    metric: Annotated[
        list[str] | None,
        typer.Option(help="Metric to calibrate, may be repeated; default: all that every video has."),
    ] = None,
    draws: Annotated[int, typer.Option(help="Bootstrap draws for the intervals.", min=10, max=100_000)] = 1000,
    overwrite: Annotated[bool, typer.Option("--overwrite", metavar="", help="Replace an earlier report.")] = False,
) -> None:
    """Report the votes so far: preferences, strengths, agreement, excluded raters, and all raw votes."""
    from videocrafter.evaluation.study.report import TABLE_FILE, markdown, write_study_report

    output = folder / "report" if output is None else output
    with bad_input():
        if metric and not metrics:
            raise ValueError("--metric chooses among the metrics of --metrics; pass --metrics, too")
        measured = _measured(metrics) if metrics else None
        if measured is not None and metric:
            measured = measured.only(metric)
        report = write_study_report(folder, output, measured, overwrite=overwrite, draws=draws)
    typer.echo(f"{markdown(report)}\nAll results: {output / TABLE_FILE} and the files next to it")


def _measured(metrics: list[str]) -> Measurements:
    from videocrafter.evaluation.study.measurements import join_evaluations, read_measurements

    if len(metrics) == 1 and Path(metrics[0]).expanduser().is_file():
        return read_measurements(Path(metrics[0]).expanduser())
    return join_evaluations({name: Path(what).expanduser() for name, (what, _) in named_sets(metrics).items()})
