"""`videocrafter convert`: convert official checkpoints to pipeline folders, and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from videocrafter.cli.byte_size import format_bytes
from videocrafter.cli.errors import bad_input
from videocrafter.cli.progress_bar import progress_bar
from videocrafter.presets import CHECKPOINT_SUFFIXES, MODEL_INDEX, PRESETS, is_run_folder, resolve_model

if TYPE_CHECKING:
    from videocrafter.checkpoints.official.conversion import Conversion


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command("convert")(convert)


def convert(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="SOURCE",
            help="Official checkpoint (.ckpt, .safetensors or a DeepSpeed folder), pipeline folder or training run.",
        ),
    ],
    out: Annotated[
        Path,
        typer.Argument(
            metavar="OUT",
            help="Folder to write; if SOURCE is a pipeline folder or run, the .ckpt or .safetensors file to write.",
        ),
    ],
    dtype: Annotated[
        str | None,
        typer.Option("--dtype", help="float16, bfloat16 or float32; default: as in the checkpoint.", metavar="TYPE"),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option("--config", help="Official yaml file of the checkpoint, needed for some unreleased models."),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing model.")] = False,
    drop_unused: Annotated[
        bool,
        typer.Option("--drop-unused", help="Omit tensors that no network uses; converting back fills them in."),
    ] = False,
    ema: Annotated[bool, typer.Option("--ema", help="Use the EMA weights of the denoiser.")] = False,
) -> None:
    """Convert an official checkpoint to a pipeline folder, or a pipeline folder to an official checkpoint.

    SOURCE determines the direction. The model in a checkpoint is detected from its content.
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
            raise ValueError(
                f"OUT is {out}, but a checkpoint is converted to a folder; remove the suffix {out.suffix!r}"
            )
        from videocrafter.checkpoints.model_target import check_target
        from videocrafter.checkpoints.official.to_folder import plan_pipeline_folder, write_pipeline_folder
        from videocrafter.cli.quiet_libraries import silence_libraries
        from videocrafter.generation.hardware import choose_dtype

        silence_libraries()
        precision = choose_dtype(dtype) if dtype is not None else None
        check_target(out, folder=True, overwrite=overwrite)
        plan = plan_pipeline_folder(source, dtype=precision, config=config, drop_unused=drop_unused, ema=ema)
        _print_found(source, plan.detected.description, plan.num_parameters, plan.notes)
        with progress_bar(f"writing {out.name}", in_bytes=True) as on_progress:
            return write_pipeline_folder(plan, out, overwrite=overwrite, on_progress=on_progress)


def _to_official(source: Path, out: Path, overwrite: bool) -> Conversion:
    with bad_input():
        from videocrafter.checkpoints.official.to_official import plan_official, write_official
        from videocrafter.cli.quiet_libraries import silence_libraries

        silence_libraries()
        plan = plan_official(source)
        _print_found(source, plan.description, plan.num_parameters, plan.notes)
        with progress_bar(f"writing {out.name}", in_bytes=True) as on_progress:
            return write_official(plan, out, overwrite=overwrite, on_progress=on_progress)


def _refuse_options(dtype: str | None, config: Path | None, drop_unused: bool, ema: bool) -> None:
    given = {"--dtype": dtype, "--config": config, "--drop-unused": drop_unused, "--ema": ema}
    wrong = [name for name, value in given.items() if value]
    if wrong:
        raise ValueError(f"omit {' and '.join(wrong)}: only for checkpoints, but SOURCE is a pipeline folder")


def _print_found(source: Path, description: str, parts: Mapping[str, int], notes: Sequence[str]) -> None:
    typer.echo(f"{source}: {description}")
    for part, count in parts.items():
        typer.echo(f"  {part}: {_amount(count)} parameters")
    for note in notes:
        typer.echo(f"Note: {note}")


def _report(conversion: Conversion) -> None:
    kept = conversion.num_extras
    extras = f", including {kept} tensors that no network uses" if kept else ""
    typer.echo(f"Wrote {conversion.path} ({format_bytes(conversion.num_bytes)} of weights{extras})")
    licence = "that of the source checkpoint"
    if conversion.preset is not None and conversion.preset in PRESETS:
        licence = PRESETS[conversion.preset].weights_licence
    typer.echo(f"Licence of the weights: {licence}. The conversion does not change it.")


def _amount(count: int) -> str:
    """Format a count with a unit: "1.86 M" for 1859972."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return str(count)
