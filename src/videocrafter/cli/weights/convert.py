"""`videocrafter convert`: official checkpoints to pipeline folders, and back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from videocrafter.cli.errors import bad_input
from videocrafter.presets import CHECKPOINT_SUFFIXES, MODEL_INDEX, PRESETS, is_run_folder, resolve_model

if TYPE_CHECKING:
    from videocrafter.checkpoints.official.conversion import Conversion, OnProgress


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command("convert")(convert)


def convert(
    source: Annotated[
        Path,
        typer.Argument(
            help="An official checkpoint (.ckpt, .safetensors, a DeepSpeed folder), or a pipeline folder or run."
        ),
    ],
    out: Annotated[
        Path, typer.Argument(metavar="OUT", help="The folder to write; for a pipeline folder, the .ckpt to write.")
    ],
    dtype: Annotated[
        str | None,
        typer.Option("--dtype", help="float16, bfloat16 or float32; default: as in the checkpoint.", metavar="TYPE"),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option("--config", help="The official yaml of the checkpoint, for a model that was never released."),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a model that is there.")] = False,
    drop_unused: Annotated[
        bool,
        typer.Option("--drop-unused", help="Leave out what no network uses; the way back then fills it."),
    ] = False,
    ema: Annotated[bool, typer.Option("--ema", help="Take the trainer's averaged weights of the denoiser.")] = False,
) -> None:
    """Convert an official checkpoint to a pipeline folder, or a pipeline folder back to a checkpoint.

    Which way follows from SOURCE. What the checkpoint is, is recognised from its content.
    """
    if is_run_folder(source):
        with bad_input():
            source = resolve_model(source, "t2v")
    if (source / MODEL_INDEX).is_file():
        with bad_input():
            _refuse_options(dtype, config, drop_unused, ema)
        conversion = _to_official(source, out, overwrite)
    else:
        conversion = _to_folder(source, out, dtype, config, overwrite, drop_unused, ema)
    _report(conversion)


def _to_folder(
    source: Path, out: Path, dtype: str | None, config: Path | None, overwrite: bool, drop_unused: bool, ema: bool
) -> Conversion:
    with bad_input():
        if out.suffix in CHECKPOINT_SUFFIXES:
            raise ValueError(f"{out} is to be a folder, because {source} is a checkpoint; leave out {out.suffix!r}")
        from videocrafter.checkpoints.official.to_folder import plan_folder, write_folder
        from videocrafter.checkpoints.whole_output import check_target
        from videocrafter.cli.hardware import choose_dtype
        from videocrafter.cli.quiet_libraries import silence_libraries

        silence_libraries()
        precision = choose_dtype(dtype) if dtype is not None else None
        check_target(out, folder=True, overwrite=overwrite)
        plan = plan_folder(source, dtype=precision, config=config, drop_unused=drop_unused, averaged=ema)
        _say_found(source, plan.recognised.description, plan.num_parameters, plan.notes)
        with _progress_bar(out) as on_progress:
            return write_folder(plan, out, overwrite=overwrite, on_progress=on_progress)


def _to_official(source: Path, out: Path, overwrite: bool) -> Conversion:
    with bad_input():
        from videocrafter.checkpoints.official.to_official import plan_official, write_official
        from videocrafter.cli.quiet_libraries import silence_libraries

        silence_libraries()
        plan = plan_official(source)
        _say_found(source, plan.description, plan.num_parameters, plan.notes)
        with _progress_bar(out) as on_progress:
            return write_official(plan, out, overwrite=overwrite, on_progress=on_progress)


def _refuse_options(dtype: str | None, config: Path | None, drop_unused: bool, ema: bool) -> None:
    given = {"--dtype": dtype, "--config": config, "--drop-unused": drop_unused, "--ema": ema}
    wrong = [name for name, value in given.items() if value]
    if wrong:
        raise ValueError(
            f"{' and '.join(wrong)}: only for a checkpoint, but SOURCE is a pipeline folder, which goes back as it"
            " is; leave the option out"
        )


def _say_found(source: Path, description: str, parts: Mapping[str, int], notes: Sequence[str]) -> None:
    typer.echo(f"{source}: {description}")
    for part, count in parts.items():
        typer.echo(f"  {part}: {_amount(count)} parameters")
    for note in notes:
        typer.echo(f"Note: {note}")


def _report(conversion: Conversion) -> None:
    kept = conversion.num_kept_aside
    aside = f", {kept} tensors beside the networks" if kept else ""
    typer.echo(f"Wrote {conversion.path} ({_size(conversion.num_bytes)} of weights{aside})")
    licence = "that of the checkpoint you gave"
    if conversion.preset is not None and conversion.preset in PRESETS:
        licence = PRESETS[conversion.preset].weights_licence
    typer.echo(f"Licence of the weights: {licence}. Converting does not change it.")


@contextmanager
def _progress_bar(out: Path) -> Iterator[OnProgress]:
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as progress:
        bar = progress.add_task(f"writing {escape(out.name)}", total=None)
        yield lambda written, total: progress.update(bar, completed=written, total=total)


def _amount(count: int) -> str:
    """1859972 as "1.86 M"."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return str(count)


def _size(num_bytes: int) -> str:
    return f"{num_bytes / 1e9:.2f} GB" if num_bytes >= 1e9 else f"{num_bytes / 1e6:.1f} MB"
