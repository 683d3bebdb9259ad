"""`videocrafter publish`: weights with a model card, as a folder or onto the Hugging Face hub."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from videocrafter.cli.errors import bad_input, fail

if TYPE_CHECKING:
    from videocrafter.checkpoints.publishing.upload import HubRepository
    from videocrafter.cli.weights.publication import Publication


def register(app: typer.Typer) -> None:
    """Add the command to an app."""
    app.command("publish")(publish)


def publish(
    source: Annotated[
        Path, typer.Argument(metavar="RUN|FOLDER", help="The folder of a run, a checkpoint, a pipeline or a LoRA.")
    ],
    to: Annotated[
        str | None, typer.Option("--to", metavar="USER/NAME", help="The repository on the Hugging Face hub.")
    ] = None,
    checkpoint: Annotated[
        str | None,
        typer.Option(
            "--checkpoint",
            metavar="latest|best|STEP",
            help="Of a run, take a checkpoint instead of its result; a name of one will do, too.",
        ),
    ] = None,
    licence: Annotated[
        str | None,
        typer.Option("--licence", "--license", metavar="ID", help="Of the weights, such as apache-2.0."),
    ] = None,
    data: Annotated[
        str | None, typer.Option("--data", metavar="TEXT", help="What it was trained on, in your words.")
    ] = None,
    base_model: Annotated[
        str | None,
        typer.Option("--base-model", metavar="NAME", help="What it started from: a model's name, or USER/NAME."),
    ] = None,
    private: Annotated[bool, typer.Option("--private", help="A new repository is for your eyes only.")] = False,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write the folder here and upload nothing.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the files and the card, and upload nothing.")
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace what the repository, or the output folder, holds.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Upload without asking.")] = False,
) -> None:
    """Give weights away: as a clean pipeline folder (--output), or uploaded to the Hugging Face hub (--to).

    The state of the training and the paths of this computer stay behind. A model card says what the weights are, what
    they were trained on and how, and under which licence they come.
    """
    with bad_input():
        if to is None and output is None and not dry_run:
            raise ValueError("say where to: --to USER/NAME uploads, --output DIR writes a folder, --dry-run shows")
        publication = _plan(source, checkpoint, to, output, licence=licence, data=data, base_model=base_model)
    _show(publication)
    if output is not None:
        with bad_input():
            _write(publication, output, overwrite)
        typer.echo(f"Wrote {output}. Nothing was uploaded.")
    elif dry_run or to is None:
        typer.echo(f"\n{publication.card}\nNothing was written, and nothing uploaded.")
    else:
        _upload(publication, to, private=private, overwrite=overwrite, yes=yes)


def _plan(
    source: Path,
    checkpoint: str | None,
    to: str | None,
    output: Path | None,
    *,
    licence: str | None,
    data: str | None,
    base_model: str | None,
) -> Publication:
    from videocrafter.checkpoints.publishing.upload import check_repo_id
    from videocrafter.cli.weights.publication import Wishes, find_weights, plan_publication

    if to is not None:
        check_repo_id(to)
    wishes = Wishes(
        repo_id=to,
        name=output.name if output is not None else None,
        licence=licence,
        data=data,
        base_model=base_model,
    )
    return plan_publication(find_weights(source, checkpoint), wishes)


def _show(publication: Publication) -> None:
    from videocrafter.pipelines.export import left_out

    typer.echo(publication.description)
    width = max(len(name) for name in publication.files)
    for name, file in publication.files.items():
        typer.echo(f"  {name:<{width}}  {_size(file.num_bytes):>9}")
    count, size = len(publication.files), _size(publication.num_bytes)
    typer.echo(f"{count} files, {size}; licence of the weights: {publication.licence}")
    stays = left_out(publication.folder, publication.files)
    if stays:
        typer.echo(f"Stays here: {', '.join(stays)}")
    for note in publication.notes:
        typer.echo(f"Note: {note}")


def _write(publication: Publication, output: Path, overwrite: bool) -> None:
    from videocrafter.checkpoints.whole_output import check_space, check_target, whole_folder
    from videocrafter.pipelines.export import write_export

    weights, target = publication.folder.resolve(), output.resolve()
    if weights == target or weights in target.parents or target in weights.parents:
        raise ValueError(f"--output {output} and the weights in {publication.folder} overlap; choose another folder")
    check_target(output, folder=True, overwrite=overwrite)
    check_space(output, publication.num_bytes)
    with whole_folder(output) as hidden:
        write_export(publication.files, hidden)


def _upload(publication: Publication, repo_id: str, *, private: bool, overwrite: bool, yes: bool) -> None:
    from videocrafter.checkpoints.publishing.upload import look_at_repository, upload_folder
    from videocrafter.pipelines.export import write_export

    if not yes and not _is_terminal():
        visibility = "private" if private else "public"
        fail(f"upload to {repo_id}, {visibility} if it is new? There is no terminal to ask on; --yes says yes")
    with bad_input():
        there = look_at_repository(repo_id)
        _check_repository(repo_id, there, private=private, overwrite=overwrite)
    typer.echo(_target(repo_id, there, private))
    if not yes and not typer.confirm("Upload?"):
        typer.echo("Nothing was uploaded.")
        raise typer.Exit(1)
    with bad_input(), tempfile.TemporaryDirectory(prefix="videocrafter-publish-") as folder:
        write_export(publication.files, Path(folder), link=True)
        address = upload_folder(Path(folder), repo_id, there, private=private)
    typer.echo(f"Uploaded: {address}")


def _check_repository(repo_id: str, there: HubRepository, *, private: bool, overwrite: bool) -> None:
    if there.files and not overwrite:
        raise ValueError(
            f"{repo_id} is there and holds {len(there.files)} files; choose another name, or allow --overwrite to"
            " replace them (its history keeps them)"
        )
    if private and there.exists and not there.is_private:
        raise ValueError(
            f"{repo_id} is there and public; make it private in its settings first, or leave out --private"
        )


def _target(repo_id: str, there: HubRepository, private: bool) -> str:
    if not there.exists:
        return f"To {repo_id}, a new {'private' if private else 'public'} repository."
    replaces = f", in place of its {len(there.files)} files" if there.files else ""
    return f"To {repo_id}, which is there and {'private' if there.is_private else 'public'}{replaces}."


def _is_terminal() -> bool:
    return sys.stdin.isatty()


def _size(num_bytes: int) -> str:
    for size, unit in ((10**9, "GB"), (10**6, "MB"), (10**3, "kB")):
        if num_bytes >= size:
            return f"{num_bytes / size:.1f} {unit}"
    return f"{num_bytes} B"
