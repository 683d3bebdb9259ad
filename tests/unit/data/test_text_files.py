"""Text is decoded strictly; errors name the line."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from videocrafter.data.text_files import TextError, decode_text, text_lines

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\ufeff"), max_size=40)


@given(text=TEXT, encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-32"]))
def test_every_unicode_encoding_is_read(text: str, encoding: str) -> None:
    assert decode_text(text.encode(encoding), "a.txt") == text


@given(text=TEXT)
def test_a_mark_of_either_byte_order_is_read(text: str) -> None:
    for encoding in ("utf-16-le", "utf-16-be", "utf-32-be"):
        assert decode_text(("\ufeff" + text).encode(encoding), "a.txt") == text


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("café".encode("latin-1"), "a.txt, line 1: byte 0xE9 is not valid UTF-8; .*WINDOWS-1252"),
        (b"x\n" * 20_000 + b"y \xff", "a.txt, line 20001: byte 0xFF"),
        ("a\nbcd".encode("utf-16")[:-1], "a.txt, line 2: byte 0x64 is not valid UTF-16"),
        ("a cat".encode("utf-16-le"), "a.txt, line 1 contains a NUL character, .* UTF-16 without a byte order mark"),
        (b"\xff\xfe\x00\xd8x\x00", "line 1: byte 0x00 is not valid UTF-16"),
    ],
)
def test_what_is_not_text_is_named_with_its_line(data: bytes, message: str) -> None:
    with pytest.raises(TextError, match=message) as caught:
        decode_text(data, "a.txt")
    assert "\n" not in str(caught.value)


def test_the_line_of_an_error_counts_every_kind_of_line_end() -> None:
    with pytest.raises(TextError, match="line 4: byte 0xFF"):
        list(text_lines(io.BytesIO(b"a\rb\r\nc\n\xff"), "a.csv", newline=""))


@given(data=st.binary(max_size=40) | st.binary(max_size=40).map(lambda data: b"\xff\xfe" + data))
def test_no_bytes_give_another_error_or_a_character_that_is_not_there(data: bytes) -> None:
    try:
        text = decode_text(data, "a.txt")
    except TextError:
        return
    assert "\0" not in text
    text.encode("utf-8")
