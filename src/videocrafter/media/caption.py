"""Captions in the bundled font: shortened to a width, with a description in place of characters it cannot draw."""

import bisect
import gzip
import io
import itertools
import unicodedata
from functools import cache
from importlib.resources import files

from PIL import ImageFont

FONT_SIZE = 13
_JOINERS = ("\u200d", "\ufe0e", "\ufe0f")  # they combine emoji and choose their style
_SCRIPTS_WITH_MARKS = ("COMBINING", "HEBREW", "ARABIC")


@cache
def caption_font() -> ImageFont.FreeTypeFont:
    """Return the bundled font, which covers the Latin, Greek, Cyrillic, Hebrew and Arabic scripts, among others."""
    packed = files("videocrafter.assets").joinpath("fonts", "dejavu_sans.ttf.gz").read_bytes()
    return ImageFont.truetype(io.BytesIO(gzip.decompress(packed)), FONT_SIZE)


def fit_caption(text: str, width: int) -> str:
    """Return a caption as one line of at most `width` pixels; a longer one ends in an ellipsis.

    Characters outside the font are described: "[2 CJK characters]".
    """
    # Lone surrogates, which a command line may contain, cannot be drawn.
    text = _described(" ".join(text.split()).encode("utf-8", "replace").decode())
    font = caption_font()
    if font.getlength(text) <= width:
        return text

    def width_of(length: int) -> float:
        return float(font.getlength(text[:length] + "…"))

    return text[: bisect.bisect_right(range(1, len(text)), float(width), key=width_of)].rstrip() + "…"


def _described(text: str) -> str:
    visible = (one for one in text if unicodedata.category(one) != "Cc" and one not in _JOINERS)
    parts = []
    for script, group in itertools.groupby(visible, _missing_script):
        characters = "".join(group)
        number = len(characters)
        parts.append(characters if script is None else f"[{number} {script} character{'s' * (number > 1)}]")
    return "".join(parts)


@cache
def _missing_script(character: str) -> str | None:
    """Return the script of a character that the font lacks, or None if it can be drawn."""
    category, name = unicodedata.category(character), unicodedata.name(character, "unknown")
    script = "emoji" if category in ("So", "Sk") else name.split(maxsplit=1)[0].removesuffix("-UNIFIED")
    if category.startswith("M"):
        # A mark alone is drawn on a dotted circle, so it cannot be compared with the box.
        is_missing = script not in _SCRIPTS_WITH_MARKS
    else:
        mask = caption_font().getmask(character)
        is_missing = (mask.size, bytes(mask)) == _box()
    if not is_missing:
        return None
    return script if script in ("CJK", "emoji", "unknown") else script.capitalize()


@cache
def _box() -> tuple[tuple[int, int], bytes]:
    """Return the size and pixels of the box that stands for a missing character."""
    mask = caption_font().getmask("\U0010ffff")
    return mask.size, bytes(mask)
