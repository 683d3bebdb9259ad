"""`videocrafter publish`: write weights with a model card to a folder, or upload them to the Hugging Face hub."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from videocrafter.cli.byte_size import format_bytes
from videocrafter.cli.errors import bad_input, fail

if TYPE_CHECKING:
    from videocrafter.checkpoints.publishing.upload import HubRepository
    from videocrafter.cli.weights.publication import Publication


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command("publish")(publish)


def publish(
    source: Annotated[
        Path, typer.Argument(metavar="RUN|FOLDER", help="Folder of a run, a checkpoint, a pipeline or a LoRA.")
    ],
    to: Annotated[
        str | None, typer.Option("--to", metavar="USER/NAME", help="Repository on the Hugging Face hub to upload to.")
    ] = None,
    checkpoint: Annotated[
        str | None,
        typer.Option(
            "--checkpoint",
            metavar="latest|best|STEP",
            help="Publish a checkpoint of the run, also by name, instead of its result.",
        ),
    ] = None,
    licence: Annotated[
        str | None,
        typer.Option("--licence", "--license", metavar="ID", help="Licence of the weights, such as apache-2.0."),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option("--data", metavar="TEXT", help="Description of the training data for the model card."),
    ] = None,
    base_model: Annotated[
        str | None,
        typer.Option("--base-model", metavar="NAME", help="Base model: a preset's name or USER/NAME."),
    ] = None,
    private: Annotated[bool, typer.Option("--private", help="Make a new repository private.")] = False,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write this folder instead of uploading.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the files and the model card; write and upload nothing.")
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the content of the repository or of the output folder.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Upload without confirmation.")] = False,
) -> None:
    """Publish weights as a clean folder (--output), or upload them to the Hugging Face hub (--to).

    Optimizer state and local paths are removed. A model card is added.
    """
    with bad_input():
        if to is None and output is None and not dry_run:
            raise ValueError(
                "no destination; pass --to USER/NAME to upload, --output DIR to write a folder, or --dry-run"
            )
        publication = _plan(source, checkpoint, to, output, licence=licence, data=data, base_model=base_model)
    _show(publication)
    if output is not None:
        with bad_input():
            _write(publication, output, overwrite)
        typer.echo(f"Wrote {output}. Nothing was uploaded.")
    elif dry_run or to is None:
        typer.echo(f"\n{publication.card}\nNothing was written, and nothing was uploaded.")
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
    from videocrafter.cli.weights.publication import AuthorInput, find_weights, plan_publication

    if to is not None:
        check_repo_id(to)
    author = AuthorInput(
        repo_id=to,
        name=output.name if output is not None else None,
        licence=licence,
        data=data,
        base_model=base_model,
    )
    return plan_publication(find_weights(source, checkpoint), author)


def _show(publication: Publication) -> None:
    from videocrafter.pipelines.export import left_out

    typer.echo(publication.description)
    width = max(len(name) for name in publication.files)
    for name, file in publication.files.items():
        typer.echo(f"  {name:<{width}}  {format_bytes(file.num_bytes):>9}")
    count, size = len(publication.files), format_bytes(publication.num_bytes)
    typer.echo(f"{count} files, {size}; licence of the weights: {publication.licence}")
    omitted = left_out(publication.folder, publication.files)
    if omitted:
        typer.echo(f"Not published: {', '.join(omitted)}")
    for note in publication.notes:
        typer.echo(f"Note: {note}")


def _write(publication: Publication, output: Path, overwrite: bool) -> None:
    from videocrafter.checkpoints.model_target import check_target
    from videocrafter.media.atomic_write import whole_folder
    from videocrafter.media.output_checks import check_space
    from videocrafter.pipelines.export import write_export

    weights, target = publication.folder.resolve(), output.resolve()
    if weights == target or weights in target.parents or target in weights.parents:
        raise ValueError(f"--output {output} and the weights in {publication.folder} overlap; choose another folder")
    check_target(output, folder=True, overwrite=overwrite)
    check_space(output, publication.num_bytes)
    with whole_folder(output, overwrite=overwrite) as hidden:
        write_export(publication.files, hidden)


def _upload(publication: Publication, repo_id: str, *, private: bool, overwrite: bool, yes: bool) -> None:
    from videocrafter.checkpoints.publishing.upload import read_repository, upload_folder
    from videocrafter.pipelines.export import write_export

    if not yes and not _is_terminal():
        visibility = "private" if private else "public"
        fail(
            f"cannot ask for confirmation without a terminal; pass --yes to upload to {repo_id} ({visibility} if new)"
        )
    with bad_input():
        repository = read_repository(repo_id)
        _check_repository(repo_id, repository, private=private, overwrite=overwrite)
    typer.echo(_target(repo_id, repository, private))
    if not yes and not typer.confirm("Upload?"):
        typer.echo("Nothing was uploaded.")
        raise typer.Exit(1)
    with bad_input(), tempfile.TemporaryDirectory(prefix="videocrafter-publish-") as folder:
        write_export(publication.files, Path(folder), link=True)
        address = upload_folder(Path(folder), repo_id, repository, private=private)
    typer.echo(f"Uploaded: {address}")


def _check_repository(repo_id: str, repository: HubRepository, *, private: bool, overwrite: bool) -> None:
    if repository.files and not overwrite:
        raise ValueError(
            f"{repo_id} already holds {len(repository.files)} files; choose another name, or pass --overwrite to"
            " replace them (its history keeps them)"
        )
    if private and repository.exists and not repository.is_private:
        raise ValueError(
            f"{repo_id} already exists and is public; make it private in its settings first, or omit --private"
        )


def _target(repo_id: str, repository: HubRepository, private: bool) -> str:
    if not repository.exists:
        return f"Destination: {repo_id}, a new {'private' if private else 'public'} repository."
    replaces = f"; its {len(repository.files)} files will be replaced" if repository.files else ""
    visibility = "private" if repository.is_private else "public"
    return f"Destination: {repo_id}, an existing {visibility} repository{replaces}."


def _is_terminal() -> bool:
    return sys.stdin.isatty()
