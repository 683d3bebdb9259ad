"""`videocrafter studio`: a page in the browser that makes videos, and an HTTP API."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Annotated

import typer

from videocrafter.cli.errors import bad_input

_PACKAGES = ("fastapi", "uvicorn")
_SHORTEST_TOKEN = 16
_DEVICE = re.compile(r"auto|(cpu|cuda|mps|xpu)(:\d+)?")


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command("studio")(studio)


def studio(
    port: Annotated[int, typer.Option("--port", help="Port; 0 chooses a free one.")] = 7860,
    data: Annotated[Path, typer.Option("--data", help="Folder for jobs, videos and uploads.")] = Path("studio"),
    devices: Annotated[
        str,
        typer.Option(
            "--devices",
            "--device",
            help="cpu, cuda, cuda:1, mps or auto; several with commas make videos at the same time.",
        ),
    ] = "auto",
    runs: Annotated[
        Path | None, typer.Option("--runs", help="Folder of training runs to show on the page Train.")
    ] = None,
    listen: Annotated[
        str | None,
        typer.Option(
            "--listen",
            metavar="ADDRESS",
            help="Also accept other machines, on this address (0.0.0.0 for all). Needs --token-file.",
        ),
    ] = None,
    token_file: Annotated[
        Path | None, typer.Option("--token-file", help="File whose first line is the secret that users must enter.")
    ] = None,
    allow_host: Annotated[
        list[str] | None,
        typer.Option("--allow-host", metavar="NAME", help="Accept requests to this host name. Repeatable."),
    ] = None,
    limit: Annotated[
        list[str] | None,
        typer.Option("--limit", metavar="NAME=N", help="Change a limit, such as queued_jobs=500. Repeatable."),
    ] = None,
) -> None:
    """Open the studio: make videos in the browser, with a queue, a gallery and an HTTP API.

    The studio answers only this machine, unless --listen is given. Press Ctrl-C to stop it; jobs that wait continue
    at the next start.
    """
    with bad_input():
        missing = [name for name in _PACKAGES if importlib.util.find_spec(name) is None]
        if missing:
            raise ValueError(
                f"the studio needs {' and '.join(missing)}, which are not installed; run: pip install"
                " 'videocrafter[web]'"
            )
        from videocrafter.web.limits import parse_limits
        from videocrafter.web.server import serve
        from videocrafter.web.studio import StudioConfig

        if runs is not None and not runs.is_dir():
            raise ValueError(f"--runs {runs} is not a folder; give the folder of a run, or one that contains several")
        config = StudioConfig(
            data=data,
            limits=parse_limits(limit or ()),
            devices=_devices(devices),
            runs=runs,
            token=_token(listen, token_file),
            hosts=tuple(allow_host or ()),
        )

        def ready(address: str) -> None:
            typer.echo(f"The studio is open at {address} (Ctrl-C stops it). Jobs and videos are in {data}.")

        try:
            serve(config, listen or "127.0.0.1", port, ready=ready)
        except KeyboardInterrupt:
            typer.echo("The studio is closed. Jobs that wait continue at the next start.")


def _devices(text: str) -> tuple[str, ...]:
    """Return the devices of a list with commas. Raises ValueError for an unknown name."""
    devices = tuple(one.strip() for one in text.split(","))
    for one in devices:
        if _DEVICE.fullmatch(one) is None:
            raise ValueError(
                f"--devices {text!r} names {one!r}, which is unknown; expected devices such as cpu or cuda:0,cuda:1"
            )
    return devices


def _token(listen: str | None, token_file: Path | None) -> str | None:
    """Return the secret. Raises ValueError if other machines could connect without one."""
    if token_file is None:
        if listen is not None:
            raise ValueError(
                "--listen opens the studio to other machines and needs a secret; write one to a file and give it with"
                " --token-file, for example: openssl rand -hex 24 > token"
            )
        return None
    token = token_file.read_text(encoding="utf-8").strip().partition("\n")[0].rstrip()
    if len(token) < _SHORTEST_TOKEN:
        raise ValueError(f"the secret in {token_file} is shorter than {_SHORTEST_TOKEN} characters; use a longer one")
    return token
