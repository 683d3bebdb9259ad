"""Cells with lists, numbers and times. Their contents are never executed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from videocrafter.data.cells import parse_list, parse_number, parse_seconds


@pytest.mark.parametrize(
    ("cell", "entries"),
    [
        (None, ()),
        ("a caption", ("a caption",)),
        ("['a', 'b']", ["a", "b"]),
        ('["a", "b"]', ["a", "b"]),
        ("[['0:00', '0:05'], ['0:05', '0:09']]", [["0:00", "0:05"], ["0:05", "0:09"]]),
        ([1, 2], [1, 2]),
        ("[cat] on a mat", ("[cat] on a mat",)),
        ("[cat]", ("[cat]",)),
        ("[__import__('os').system('true')]", ("[__import__('os').system('true')]",)),
        (7, (7,)),
    ],
)
def test_lists(cell: object, entries: object) -> None:
    assert parse_list(cell) == entries


@pytest.mark.parametrize(
    ("cell", "seconds"),
    [
        ("75.5", 75.5),
        (3, 3.0),
        ("0:01:15.500", 75.5),
        ("1:00:00", 3600.0),
        ("-1", None),
        ("soon", None),
        ("", None),
        ("1:2:3:4", None),
        ("1::2", None),
        (float("nan"), None),
        (None, None),
        (True, None),
    ],
)
def test_seconds(cell: object, seconds: float | None) -> None:
    assert parse_seconds(cell) == seconds


def test_numbers() -> None:
    assert parse_number("-2.5") == -2.5
    assert parse_number(10**400) is None
    assert parse_number("inf") is None
    assert parse_number([1]) is None


@given(st.text() | st.none() | st.floats() | st.lists(st.text()))
def test_no_cell_is_too_odd(cell: object) -> None:
    parse_list(cell)
    parse_number(cell)
    assert parse_seconds(cell) is None or parse_seconds(cell) >= 0
