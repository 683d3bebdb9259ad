"""Contact sheet of a comparison: rows are prompts, columns are models; as a still, or moving in step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from videocrafter.media.caption import caption_font, fit_caption
from videocrafter.media.contact_sheet import evenly_spaced

Pixels = NDArray[np.uint8]

_GAP, _LINE = 6, 20
_PAPER, _INK, _EMPTY = (255, 255, 255), (32, 32, 32), (230, 230, 230)
FRAMES_OF_STILL = 4
MOST_FRAMES = 128


@dataclass(frozen=True, kw_only=True)
class SheetRow:
    """One row: its prompt, and for each column the frames [T, H, W, 3] with their rate, or None.

    Attributes:
        caption: line above the row.
        image: input image [H, W, 3], or None.
        cells: by column.
    """

    caption: str
    image: Pixels | None
    cells: Sequence[tuple[Pixels, float] | None]


def still_sheet(rows: Sequence[SheetRow], columns: Sequence[str], cell: int) -> Pixels:
    """Return a picture [H, W, 3] with up to four evenly spaced frames of every video.

    Args:
        rows: at least one.
        columns: names of the columns.
        cell: side of the square that a frame fits in, in pixels.
    """
    frames = [
        [_strip(one[0], cell) if one is not None else None for one in row.cells] for row in rows
    ]  # [rows][columns] of [h, w, 3]
    widest = max((one.shape[1] for row in frames for one in row if one is not None), default=cell)
    layout = _Layout(rows, columns, cell, widest, _heights(frames, rows, cell))
    return layout.filled(frames)


def moving_sheet(rows: Sequence[SheetRow], columns: Sequence[str], cell: int) -> tuple[Iterator[Pixels], float, int]:
    """Return a video of the sheet: frames [H, W, 3], their rate, and their number.

    All cells follow one clock, so videos of different rates stay in step; shorter ones wait on their last frame. With
    more than `MOST_FRAMES` frames, the rate is lowered, so that the sheet shows all of every video.
    """
    videos = [[None if one is None else (_fitted(one[0], cell), one[1]) for one in row.cells] for row in rows]
    known = [one for row in videos for one in row if one is not None]
    fps = max((rate for _, rate in known), default=1.0)
    seconds = max((len(frames) / rate for frames, rate in known), default=1 / fps)
    count = max(1, round(seconds * fps))
    if count > MOST_FRAMES:
        count, fps = MOST_FRAMES, MOST_FRAMES / seconds
    first = [[None if one is None else one[0][0] for one in row] for row in videos]
    widest = max((frames.shape[2] for frames, _ in known), default=cell)
    layout = _Layout(rows, columns, cell, widest, _heights(first, rows, cell))

    def frames() -> Iterator[Pixels]:
        for index in range(count):
            time = index / fps
            yield layout.filled([[None if one is None else _at(*one, time) for one in row] for row in videos])

    return frames(), fps, count


class _Layout:
    """The sheet without videos, and the place of each cell."""

    def __init__(
        self, rows: Sequence[SheetRow], columns: Sequence[str], cell: int, width: int, heights: Sequence[int]
    ) -> None:
        has_image = any(row.image is not None for row in rows)
        start = _GAP + (cell + _GAP if has_image else 0)
        self._lefts = [start + index * (width + _GAP) for index in range(len(columns))]
        total = self._lefts[-1] + width + _GAP
        self._tops: list[int] = []
        height = _LINE + sum(_LINE + one + _GAP for one in heights) + _GAP
        sheet = Image.new("RGB", (total + total % 2, height + height % 2), _PAPER)
        draw = ImageDraw.Draw(sheet)
        for left, name in zip(self._lefts, columns, strict=True):
            draw.text((left, 2), fit_caption(name, width), fill=_INK, font=caption_font())
        if has_image:
            draw.text((_GAP, 2), fit_caption("input image", cell), fill=_INK, font=caption_font())
        top = _LINE
        for row, row_height in zip(rows, heights, strict=True):
            draw.text((_GAP, top), fit_caption(row.caption, total - 2 * _GAP), fill=_INK, font=caption_font())
            top += _LINE
            if row.image is not None:
                sheet.paste(Image.fromarray(_fitted(row.image[None], cell)[0]), (_GAP, top))
            for left, one in zip(self._lefts, row.cells, strict=True):
                if one is None:
                    draw.rectangle((left, top, left + width - 1, top + row_height - 1), fill=_EMPTY)
                    draw.text(
                        (left + _GAP, top + _GAP), fit_caption("no video", width), fill=_INK, font=caption_font()
                    )
            self._tops.append(top)
            top += row_height + _GAP
        self._empty = np.array(sheet)

    def filled(self, pictures: Sequence[Sequence[Pixels | None]]) -> Pixels:
        """Return the sheet with a picture in each cell that has one."""
        sheet = self._empty.copy()
        for top, row in zip(self._tops, pictures, strict=True):
            for left, picture in zip(self._lefts, row, strict=True):
                if picture is not None:
                    sheet[top : top + picture.shape[0], left : left + picture.shape[1]] = picture
        return sheet


def _heights(pictures: Sequence[Sequence[Pixels | None]], rows: Sequence[SheetRow], cell: int) -> list[int]:
    """Return the height of each row, which its pictures and its input image need."""
    return [
        max(
            [one.shape[0] for one in found if one is not None]
            + ([_fitted(row.image[None], cell).shape[1]] if row.image is not None else [])
            or [cell // 2]
        )
        for found, row in zip(pictures, rows, strict=True)
    ]


def _at(frames: Pixels, rate: float, time: float) -> Pixels:
    return np.asarray(frames[min(len(frames) - 1, int(time * rate + 1e-6))])


def _strip(frames: Pixels, cell: int) -> Pixels:
    chosen = _fitted(evenly_spaced(frames, FRAMES_OF_STILL), cell)
    gap = np.full((chosen.shape[1], 1, 3), _PAPER, np.uint8)
    parts = [part for frame in chosen for part in (frame, gap)]
    return np.concatenate(parts[:-1], axis=1)


def _fitted(frames: Pixels, cell: int) -> Pixels:
    """Scale frames [T, H, W, 3] to fit a square; small ones by a whole factor without smoothing."""
    height, width = frames.shape[1:3]
    factor = cell // max(height, width)
    if factor >= 1:
        return np.asarray(frames.repeat(factor, axis=1).repeat(factor, axis=2))
    scale = cell / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.stack([np.asarray(Image.fromarray(frame).resize(size, Image.Resampling.LANCZOS)) for frame in frames])
