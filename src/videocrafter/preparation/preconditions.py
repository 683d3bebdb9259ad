"""Conditions of a run, checked before any work."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from videocrafter.data.locations import expand_home, is_remote
from videocrafter.media.json_file import read_json_object
from videocrafter.preparation.config import PrepareConfig, result_settings
from videocrafter.preparation.failures import PreparationError
from videocrafter.preparation.plan import PlannedVideo
from videocrafter.preparation.scoring.scoring import check
from videocrafter.preparation.work_files import canonical


def check_settings(out: Path, config: PrepareConfig, *, change_settings: bool) -> None:
    """Compare the settings with those of earlier runs in `out`, which must be empty otherwise.

    Raises:
        PreparationError: they differ and may not, or the folder contains other files.
    """
    path, settings = out / "settings.json", json.loads(settings_file(config))
    if path.is_file():
        differences = list(_differences(read_json_object(path), settings))
        if not differences:
            return
        if not change_settings:
            raise PreparationError(
                f"{out} was prepared with other settings: {'; '.join(differences)}. Choose another folder, or pass "
                "--change-settings to replace its shards; results that do not depend on these settings are kept"
            )
    elif out.is_dir() and any(not path.name.startswith(".") for path in out.iterdir()):
        raise PreparationError(f"{out} contains other files; choose an empty or a new folder")


def check_inputs(sources: Sequence[str], videos: Sequence[PlannedVideo], out: Path, config: PrepareConfig) -> None:
    """Check where the videos and the output are, the captions, and the networks that score clips.

    Raises:
        PreparationError: something is missing or in the wrong place; the message says what to do.
    """
    _check_places(sources, videos, out)
    _check_captions(videos, config)
    _check_scores(config)


def _check_places(sources: Sequence[str], videos: Sequence[PlannedVideo], out: Path) -> None:
    """Check that the output is not inside a source, and that no source is inside the output.

    Raises:
        PreparationError: a later run would prepare its own output, or replace its sources.
    """
    where = out.resolve()
    for source in sources:
        folder = Path(expand_home(source))
        if folder.is_dir() and where.is_relative_to(folder.resolve()):
            raise PreparationError(f"the output {out} is inside the source {source}; choose a folder outside")
    for video in videos:
        if video.url and not is_remote(video.url) and Path(video.url).resolve().is_relative_to(where):
            raise PreparationError(f"{video.url} is inside the output {out}; choose another output")


def _check_scores(config: PrepareConfig) -> None:
    """Check that the networks that score clips can be loaded.

    Raises:
        PreparationError: one cannot, or is not the pinned one.
    """
    try:
        check(config.score)
    except (ValueError, OSError) as error:
        raise PreparationError(" ".join(str(error).split())) from error


def settings_file(config: PrepareConfig) -> bytes:
    """Return the settings that influence the result, as JSON."""
    return canonical(result_settings(config))


def _differences(before: Any, now: Any, place: str = "") -> list[str]:
    if isinstance(before, dict) and isinstance(now, dict):
        names = [*before, *(name for name in now if name not in before)]
        return [
            line
            for name in names
            for line in _differences(before.get(name), now.get(name), f"{place}.{name}" if place else name)
        ]
    return [] if before == now else [f"{place} was {before!r} and is now {now!r}"]


def _check_captions(videos: Sequence[PlannedVideo], config: PrepareConfig) -> None:
    """Check that some video has a caption, or that captions come from elsewhere.

    Raises:
        PreparationError: no clip would have one, so that none could be trained on.
    """
    caption = config.caption
    usable = [video for video in videos if not video.reason]
    if not usable or any(video.is_captioned for video in usable) or caption.text or caption.url or caption.model:
        return
    raise PreparationError(
        f"none of the {len(usable)} videos has a caption. Put a text file with the same name next to each (a.txt for "
        "a.mp4), or use one text for all (--set caption.text=...), or a model (--set caption.url=..., or "
        "--set caption.model=FOLDER)"
    )
