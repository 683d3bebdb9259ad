"""Contact sheets: one row of frames per video, with its caption above."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from videocrafter.media.caption import caption_font, fit_caption
from videocrafter.media.pixel_values import as_bytes

_GAP = 4  # pixels between frames and around the sheet
_CAPTION_HEIGHT = 20
_MIN_CELL = 128  # frames smaller than this are enlarged unless `scale` says otherwise
_PAPER = (255, 255, 255)
_INK = (32, 32, 32)


def contact_sheet(
    videos: Sequence[np.ndarray],
    captions: Sequence[str] | None = None,
    *,
    columns: int | None = None,
    scale: int | None = None,
) -> np.ndarray:
    """Draw one row of frames per video.

    Args:
        videos: `[T, H, W, 3]` each, uint8 or floats from 0 to 1; sizes and lengths may differ.
        captions: One line above each row, shortened to the width of the sheet as `fit_caption` describes.
        columns: Largest number of frames in a row. Longer videos are reduced to evenly spaced frames, including the
            first and the last. None shows all frames.
        scale: Integer factor by which frames are enlarged, without smoothing. None enlarges frames below 128 pixels
            to about that size.

    Returns:
        uint8 `[H, W, 3]`.

    Raises:
        ValueError: No videos, videos of another shape, dtype or range, `columns` or `scale` below 1, or a wrong
            number of captions.
    """
    _check(videos, captions, columns, scale)
    rows = [_row(as_bytes(video, "pixels"), columns, scale) for video in videos]
    width = max(row.shape[1] for row in rows) + 2 * _GAP
    caption_height = _CAPTION_HEIGHT if captions else 0
    height = _GAP + sum(caption_height + row.shape[0] + _GAP for row in rows)
    sheet = Image.new("RGB", (width, height), _PAPER)
    draw = ImageDraw.Draw(sheet)
    top = _GAP
    for index, row in enumerate(rows):
        if captions:
            draw.text((_GAP, top), fit_caption(captions[index], width - 2 * _GAP), fill=_INK, font=caption_font())
            top += caption_height
        sheet.paste(Image.fromarray(row), (_GAP, top))
        top += row.shape[0] + _GAP
    return np.array(sheet)


def evenly_spaced(video: np.ndarray, most: int) -> np.ndarray:
    """Return at most `most` frames of a video `[T, ...]`, including the first and the last."""
    if len(video) <= most:
        return video
    return video[np.linspace(0, len(video) - 1, most).round().astype(int)]


def _check(
    videos: Sequence[np.ndarray], captions: Sequence[str] | None, columns: int | None, scale: int | None
) -> None:
    if not videos:
        raise ValueError("there are no videos; pass at least one, [T, H, W, 3]")
    for video in videos:
        if video.ndim != 4 or video.shape[-1] != 3 or 0 in video.shape:
            raise ValueError(f"a video is {video.dtype} {list(video.shape)}; expected non-empty [T, H, W, 3]")
    if captions is not None and len(captions) != len(videos):
        raise ValueError(f"there are {len(captions)} captions for {len(videos)} videos; pass one for each")
    for name, value in (("columns", columns), ("scale", scale)):
        if value is not None and value < 1:
            raise ValueError(f"{name} is {value}; pass at least 1, or None")


def _row(video: np.ndarray, columns: int | None, scale: int | None) -> np.ndarray:
    """Lay the frames of `[T, H, W, 3]` side by side: `[H', W', 3]`."""
    height, width = video.shape[1:3]
    if columns is not None:
        video = evenly_spaced(video, columns)
    factor = scale or max(1, round(_MIN_CELL / max(height, width)))
    cells = video.repeat(factor, axis=1).repeat(factor, axis=2)
    row = np.full((height * factor, len(cells) * (width * factor + _GAP) - _GAP, 3), _PAPER, np.uint8)
    for index, cell in enumerate(cells):
        left = index * (width * factor + _GAP)
        row[:, left : left + width * factor] = cell
    return row
