"""Write a comparison: the page, its files, and the contact sheets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from videocrafter.evaluation.comparison.films import read_shown
from videocrafter.evaluation.comparison.matching import Row
from videocrafter.evaluation.comparison.page import FILES_FOLDER, PAGE_FILE, Metrics, comparison_page
from videocrafter.evaluation.comparison.sheet import SheetRow, moving_sheet, still_sheet
from videocrafter.media.atomic_write import Content, parts_folder, write_all
from videocrafter.media.errors import MediaError
from videocrafter.media.image_file import read_image
from videocrafter.media.output_checks import check_writable
from videocrafter.media.video_encoding import MAX_GIF_FPS, encode_gif, encode_png, encode_video

SHEET_STILL, SHEET_MOVING, SHEET_GIF = "sheet.png", "sheet.mp4", "sheet.gif"
_OURS = (PAGE_FILE, SHEET_STILL, SHEET_MOVING, SHEET_GIF)
# A sheet of more rows is too tall to look at, and for some encoders.
SHEET_ROWS = 12
_SHEET_FRAMES, _SHEET_CELL = 128, 160


@dataclass(frozen=True, kw_only=True)
class PageSettings:
    """See `comparison_page`."""

    title: str = "Comparison"
    size: int = 512
    max_frames: int = 128
    embed: bool | None = None

    def __post_init__(self) -> None:
        """Raise ValueError for sizes that cannot be shown."""
        if not 16 <= self.size <= 4096:
            raise ValueError(f"size is {self.size}; expected 16 to 4096 pixels")
        if not 1 <= self.max_frames <= 4096:
            raise ValueError(f"max_frames is {self.max_frames}; expected 1 to 4096")


def check_comparison_folder(output: Path, *, overwrite: bool) -> None:
    """Check, before anything is generated, that a comparison can be written; creates the folder.

    Raises:
        OutputExistsError: the folder contains a comparison and `overwrite` is false.
        MediaError: the folder cannot be written.
    """
    for name in _OURS:
        check_writable(output / name, overwrite=overwrite)


def write_comparison(
    rows: Sequence[Row],
    columns: Sequence[str],
    output: Path,
    settings: PageSettings,
    *,
    metrics: Metrics | None = None,
    overwrite: bool = False,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[Path, ...]:
    """Write index.html with its files, and the first rows as sheet.png, sheet.mp4 and sheet.gif; all or none.

    Raises:
        ValueError: there is nothing to compare.
        MediaError: the comparison exists or cannot be written.
    """
    if not rows:
        raise ValueError("there is nothing to compare: no column has a video for one of the prompts")
    with parts_folder(output) as parts:
        page = comparison_page(
            rows,
            columns,
            parts,
            title=settings.title,
            metrics=metrics,
            size=settings.size,
            max_frames=settings.max_frames,
            embed=settings.embed,
            on_progress=on_progress,
        )
        outputs: dict[Path, Content] = {output / PAGE_FILE: page.html}
        outputs |= {output / name: content for name, content in _sheets(rows[:SHEET_ROWS], columns).items()}
        if page.pictures is not None:
            outputs[output / FILES_FOLDER] = page.pictures
        write_all(outputs, overwrite=overwrite, objection=_objection)
    return tuple(outputs)


def _sheets(rows: Sequence[Row], columns: Sequence[str]) -> dict[str, bytes]:
    sheet = [_sheet_row(row, columns) for row in rows]
    frames, fps, _ = moving_sheet(sheet, columns, _SHEET_CELL)
    moving = np.stack(list(frames))  # at most `MOST_FRAMES`, because a GIF is encoded as a whole
    return {
        SHEET_STILL: encode_png(still_sheet(sheet, columns, _SHEET_CELL)),
        SHEET_MOVING: encode_video(moving, fps),
        SHEET_GIF: encode_gif(moving, min(fps, MAX_GIF_FPS)),
    }


def _objection(folder: Path) -> str | None:
    foreign = [path.name for path in folder.iterdir() if path.suffix != ".webp"]
    return f"holds files that are not of a comparison, such as {foreign[0]}" if foreign else None


def _sheet_row(row: Row, columns: Sequence[str]) -> SheetRow:
    cells = []
    for name in columns:
        entry = row.videos.get(name)
        try:
            cell = None if entry is None else read_shown(entry.path, _SHEET_CELL, _SHEET_FRAMES)[:2]
        except MediaError:
            cell = None
        cells.append(cell)
    try:
        image = None if row.image is None else read_image(row.image)
    except MediaError:
        image = None
    seed = "" if row.seed is None else f"seed {row.seed}: "
    return SheetRow(caption=f"{seed}{row.prompt}", image=image, cells=cells)
