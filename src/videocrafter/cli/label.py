"""`videocrafter label`: calibrate a filter of `videocrafter prepare` by eye."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from videocrafter.cli.errors import bad_input


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command("label")(label)


def label(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Output folder of videocrafter prepare.")],
    filter_: Annotated[str, typer.Option("--filter", help="Name of the filter, such as static or blurred.")],
    count: Annotated[int, typer.Option("--count", min=2, help="Number of clips on the page.")] = 200,
    labels: Annotated[
        Path | None, typer.Option("--labels", help="Answers saved from the page; prints a proposed threshold.")
    ] = None,
) -> None:
    """Write a page of clips near a filter's threshold, or propose a threshold from the answers."""
    with bad_input():
        from videocrafter.preparation.labels import propose, write_label_page

        if labels is None:
            path, number = write_label_page(out, filter_, count)
            typer.echo(f"Open {path} in a browser, judge {number} clips, save the answers, then pass --labels.")
            return
        found = propose(out, filter_, labels)
    typer.echo(
        f"{filter_}: the present threshold {found.threshold:.4g} drops with a precision of {found.precision:.0%}.\n"
        f"Proposed: {found.proposed:.4g}, precision {found.proposed_precision:.0%}, which agrees with "
        f"{found.agreement:.0%} of the answers: --set {found.setting}={found.value:.4g} --change-settings"
    )
