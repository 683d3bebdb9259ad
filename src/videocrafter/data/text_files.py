"""Strict decoding of text files: by byte order mark, else as UTF-8. Errors name the file and the line."""

from __future__ import annotations

import codecs
import io
import re
from collections.abc import Iterator
from typing import BinaryIO, Literal

# The mark of UTF-32-LE begins with that of UTF-16-LE, so it is tried first.
_ENCODINGS = {
    codecs.BOM_UTF32_LE: "utf-32-le",
    codecs.BOM_UTF32_BE: "utf-32-be",
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF16_LE: "utf-16-le",
    codecs.BOM_UTF16_BE: "utf-16-be",
}
_LONGEST_MARK = 4


class TextError(ValueError):
    """A file is not valid text. The one-line message names the file, the line and the remedy."""


def decode_text(data: bytes, name: str) -> str:
    """Return the text of a whole file, without its byte order mark.

    Raises:
        TextError: a byte cannot be decoded, or there is a NUL character.
    """
    return "".join(text_lines(io.BytesIO(data), name, newline="\n"))


def text_lines(file: BinaryIO, name: str, *, newline: Literal["", "\n"]) -> Iterator[str]:
    r"""Yield the lines of a seekable file with their endings.

    Args:
        name: name of the file in messages.
        newline: "\n" ends lines at \n only; "" also at \r\n and at a lone \r. No other character ends a line.

    Raises:
        TextError: a byte cannot be decoded, or there is a NUL character.
    """
    encoding = _seek_past_mark(file)
    text = io.TextIOWrapper(file, encoding=encoding, newline=newline)
    number = 1
    try:
        for line in text:
            if "\0" in line:
                raise TextError(
                    f"{name}, line {number} contains a NUL character, so the file is not plain text or is UTF-16 "
                    "without a byte order mark; save it as UTF-8"
                )
            yield line
            number += 1
    except UnicodeDecodeError as error:
        number += _num_line_ends(error, encoding, newline)
        raise TextError(
            f"{name}, line {number}: byte 0x{error.object[error.start]:02X} is not valid {encoding.upper()}; save the"
            " file as UTF-8 or convert it, for example with iconv -f WINDOWS-1252 -t UTF-8"
        ) from error
    finally:
        if not file.closed:
            text.detach()  # else the wrapper would close the file


def non_character(text: str) -> str:
    """Describe the first NUL or lone surrogate, which JSON can spell but no tokenizer accepts; empty if none."""
    found = re.search("[\0\ud800-\udfff]", text)
    if found is None:
        return ""
    return "a NUL character" if found[0] == "\0" else f"half of a surrogate pair, {found[0]!r}"


def _seek_past_mark(file: BinaryIO) -> str:
    """Return the encoding that the byte order mark names, or UTF-8, and seek to the first character."""
    start = file.read(_LONGEST_MARK)
    mark = next((mark for mark in _ENCODINGS if start.startswith(mark)), b"")
    file.seek(len(mark))
    return _ENCODINGS.get(mark, "utf-8")


def _num_line_ends(error: UnicodeDecodeError, encoding: str, newline: str) -> int:
    """Return the number of lines that end in the decoder's block before the invalid byte."""
    before = error.object[: error.start].decode(encoding, "replace")
    if newline == "":
        before = before.replace("\r\n", "\n").replace("\r", "\n")
    return before.count("\n")
