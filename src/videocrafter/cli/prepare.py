"""`videocrafter prepare`: turn raw videos into training shards."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from videocrafter.cli.errors import bad_input
from videocrafter.cli.interruption import reporting_interruption
from videocrafter.cli.progress_bar import progress_bar

if TYPE_CHECKING:
    from videocrafter.preparation.run import Preview, Summary


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command("prepare")(prepare_command)


def prepare_command(
    paths: Annotated[
        list[str],
        typer.Argument(
            metavar="SOURCE... OUT",
            help="Folders, videos, addresses, lists (.txt) or training sources such as webvid:PATH?root=FOLDER, and "
            "the output folder.",
        ),
    ],
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="Change a setting, such as --set select.level=finetune.")
    ] = None,
    engine: Annotated[
        str, typer.Option("--engine", help="Where to run: local, or ray (a cluster; experimental).")
    ] = "local",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="List the videos, and the choice among those scanned; write nothing.")
    ] = False,
    retry: Annotated[
        list[str] | None,
        typer.Option("--retry", help="Try failures again that have this reason, such as crashed. May be repeated."),
    ] = None,
    accept_changed: Annotated[
        bool, typer.Option("--accept-changed", help="Prepare videos again that changed since the plan.")
    ] = False,
    change_settings: Annotated[
        bool,
        typer.Option("--change-settings", help="Continue in OUT with other settings; its shards are replaced."),
    ] = False,
) -> None:
    """Turn raw videos into captioned, filtered shards for training. The same command again continues a run."""
    with bad_input():
        if len(paths) < 2:
            raise ValueError(f"expected at least one source and the output folder, got {' '.join(paths)}")
        if "://" in paths[-1] or paths[-1].startswith("file:"):
            raise ValueError(f"the output is {paths[-1]}, expected a folder of this machine")
        _check_installed()
        # These are imported here because they load codecs.
        from videocrafter.preparation.config import PrepareConfig
        from videocrafter.preparation.failures import REASONS
        from videocrafter.preparation.run import prepare, preview
        from videocrafter.training.recipes.overrides import apply_overrides

        config = apply_overrides(PrepareConfig(), set_ or [])
        unknown = [reason for reason in retry or () if reason not in REASONS]
        if unknown:
            raise ValueError(f"--retry {unknown[0]}: unknown reason; reasons are {', '.join(REASONS)}")
        where = _engine_name(engine)
    *sources, last = paths
    out = Path(last).expanduser()
    if dry_run:
        with bad_input():
            _show_preview(preview(sources, out, config, accept_changed=accept_changed), out)
        return
    stage = "plan"

    def on_progress(name: str, done: int, total: int) -> None:
        nonlocal stage
        stage = f"{name}: {done} of {total} units are done"
        show(done, total)

    with (
        progress_bar("units") as show,
        reporting_interruption(lambda: f"{stage}; the same command continues."),
        bad_input(),
    ):
        summary = prepare(
            sources,
            out,
            config,
            engine=where,
            retry=frozenset(retry or ()),
            accept_changed=accept_changed,
            change_settings=change_settings,
            progress=on_progress,
        )
    _show_summary(summary, out)


def _engine_name(engine: str) -> Literal["local", "ray"]:
    if engine == "local":
        return "local"
    if engine != "ray":
        raise ValueError(f"--engine is {engine!r}, expected local or ray")
    from importlib.util import find_spec

    if find_spec("ray") is None:
        raise ValueError("--engine ray needs Ray; run pip install 'videocrafter[prepare,ray]'")
    return "ray"


def _check_installed() -> None:
    from importlib.util import find_spec

    missing = [name for name in ("cv2", "pyarrow") if find_spec(name) is None]
    if missing:
        raise ValueError(f"preparing videos needs {', '.join(missing)}; run pip install 'videocrafter[prepare]'")


def _show_preview(found: Preview, out: Path) -> None:
    plan = found.plan
    typer.echo(f"{len(plan.videos)} videos, {found.num_bytes / 1e9:.1f} GB; {found.waiting} are not scanned yet.")
    for name in plan.changed:
        typer.echo(f"Changed since the plan, left alone: {name}")
    if found.selection.rows:
        kept = sum(row["kept"] for row in found.selection.rows)
        typer.echo(f"{kept} of {len(found.selection.rows)} clips would be kept:")
        for step in found.selection.steps:
            if step.dropped:
                limit = "" if step.threshold is None else f" ({step.score or 'distance'} {step.threshold:.4g})"
                typer.echo(f"  {step.name}{limit}: {step.dropped} dropped, {step.remaining} remain")
    typer.echo(f"Nothing was written to {out}.")


def _show_summary(summary: Summary, out: Path) -> None:
    for name in summary.changed:
        typer.echo(f"Warning: {name} changed since the plan and was left alone (--accept-changed)", err=True)
    typer.echo(
        f"{summary.videos} videos ({summary.bad} with problems), {summary.clips} clips, {summary.kept} kept, "
        f"{summary.in_shards} in {len(summary.shards)} shards ({summary.hours:.2f} hours)."
    )
    if summary.failures:
        counts = ", ".join(f"{count} {reason}" for reason, count in summary.failures.most_common())
        typer.echo(f"Problems: {counts}; see {out / 'failures.parquet'}")
    typer.echo(f"Report: {out / 'report.html'}")
    if summary.shards:
        typer.echo(f"Train on it: --data {out / 'shards'}")
    else:
        typer.echo("Warning: no clip is in a shard; the report shows what each filter dropped", err=True)
