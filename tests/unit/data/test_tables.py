"""Valid tables come back as written; whatever else a row is, it is a problem with its file, line and remedy."""

from __future__ import annotations

import csv
import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from videocrafter.data.tables import TableError, TableRow, csv_rows, json_lines, json_list, parse_json
from videocrafter.data.text_files import TextError

CELLS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)
ODD = st.sampled_from(["a", "b,c", "\t", '"', '""', "\n", "\r\n", ";", "\u2028", "\x85", "\x0b\x0c", "{}", "[", " "])


def read_csv(text: str, delimiter: str = ",") -> list[TableRow]:
    return list(csv_rows(io.BytesIO(text.encode()), "m.csv", delimiter))


def read_lines(text: str) -> list[TableRow]:
    return list(json_lines(io.BytesIO(text.encode()), "m.jsonl"))


@given(
    rows=st.lists(st.tuples(CELLS | ODD, CELLS | ODD), max_size=5),
    delimiter=st.sampled_from([",", "\t"]),
    ending=st.sampled_from(["\n", "\r\n"]),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
)
def test_a_written_table_is_read(rows: list[tuple[str, str]], delimiter: str, ending: str, encoding: str) -> None:
    text = io.StringIO(newline="")
    writer = csv.writer(text, delimiter=delimiter, lineterminator=ending, quoting=csv.QUOTE_ALL)
    writer.writerows([("video", "caption"), *rows])
    found = csv_rows(io.BytesIO(text.getvalue().encode(encoding)), "m.csv", delimiter)
    assert [tuple(row.cells.values()) for row in found] == rows


@given(
    rows=st.lists(st.dictionaries(CELLS, CELLS | ODD | st.none() | st.integers(), max_size=3), max_size=4),
    escaped=st.booleans(),
    ending=st.sampled_from(["\n", "\r\n", "\n\n"]),
)
def test_written_json_is_read(rows: list[dict[str, object]], escaped: bool, ending: str) -> None:
    lines = [json.dumps(row, ensure_ascii=escaped) for row in rows]
    assert [row.cells for row in read_lines(ending.join(lines))] == rows
    assert [row.cells for row in json_list(io.BytesIO(f"[{','.join(lines)}]".encode()), "m.json")] == rows


@given(st.binary(max_size=60) | st.lists(ODD, max_size=12).map(lambda parts: "".join(parts).encode()))
def test_any_bytes_are_rows_or_a_documented_error(data: bytes) -> None:
    for read in (csv_rows, json_lines, json_list):
        try:
            rows = list(read(io.BytesIO(data), "m.x"))  # type: ignore[operator]
        except (TableError, TextError) as error:
            problems = [str(error)]
        else:
            problems = [row.problem for row in rows if row.problem]
        assert all(problem.startswith("m.x") and "\n" not in problem for problem in problems)


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ("a.mp4,a cat on a mat, seen from above", "has 3 cells, but the first line names 2 columns; put text with"),
        ('a.mp4, "a cat, asleep"', "without a space before the quotes"),
        ("a.mp4,a cat,", "has 3 cells"),
        ("a.mp4", "has 1 cells, but the first line names 2 columns; add the missing ones"),
        ('a.mp4,"a "big" cat"', 'text follows the closing double quote of a cell; .* write "" for a quote inside'),
    ],
)
def test_a_bad_row_costs_only_itself(row: str, problem: str) -> None:
    good, bad, after = read_csv(f"video,caption\nz.mp4,one\n{row}\nb.mp4,two\n")
    assert (good.cells["caption"], after.cells["caption"]) == ("one", "two")
    assert (dict(bad.cells), bad.where) == ({"video": "", "caption": ""}, "m.csv, line 3")
    with pytest.raises(AssertionError, match=f"m.csv, line 3.*{problem}"):
        raise AssertionError(bad.problem)


def test_columns_without_a_name_at_the_end_must_be_empty() -> None:
    rows = read_csv("video,caption,,\na.mp4,one,,\nb.mp4,two\nc.mp4,three, lost,\n")
    assert [bool(row.problem) for row in rows] == [False, False, True]
    assert rows[0].cells == {"video": "a.mp4", "caption": "one"}
    assert read_csv(",video\n0,a.mp4\n")[0].cells == {"": "0", "video": "a.mp4"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("video;caption\na;b\n", "line 1 is separated by semicolons, expected columns separated by commas"),
        ("sep=;\nvideo;caption\n", "line 1 is 'sep=;', expected columns separated by commas"),
        ("a,b,a\n", "line 1 names the column 'a' twice"),
        (",,\n", "line 1 names no column"),
        ('a,b\n1,"2\n3,4\n', 'line 2 to 3: a cell begins with a double quote that is never closed; .* write ""'),
        ('a,b\n1,"2\n3,"4"\n', "line 2 to 3: text follows the closing double quote"),
        ('a,b\n1,"' + "long line\n" * 20_000, "line 2 to [0-9]+: a cell has more than 131072 characters"),
        ("a,b\n" + "1," * 600_000, "line 2: the row has more than 1048576 characters"),
    ],
)
def test_a_table_whose_rows_cannot_be_told_apart_is_an_error(text: str, message: str) -> None:
    with pytest.raises(TableError, match=message):
        read_csv(text)


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ('{"a": ', "line 2 is not valid JSON (Expecting value at column 7); fix or remove it"),
        ("[1]", "line 2 is not a JSON object"),
        ('{"a": 1}{"a": 2}', "line 2 is not valid JSON (Extra data at column 9)"),
        ('{"a": 1, "a": 2}', "line 2 has the key 'a' twice"),
        ('{"a": [{"b": 1, "b": 2}]}', "line 2: a has the key 'b' twice in one object"),
        ('{"a": NaN}', "line 2: a is nan, expected a finite number"),
        ('{"a": [1, -Infinity]}', "line 2: a is -inf"),
        ('{"a": 1e999}', "line 2: a is inf"),
        ("[" * 100_000, "line 2 is not valid JSON (nested too deeply)"),
        ('{"a": ' + "9" * 5000 + "}", "line 2 is not valid JSON"),
        ("\x0c", "line 2 is not valid JSON"),
    ],
)
def test_a_bad_line_of_json_costs_only_itself(line: str, problem: str) -> None:
    good, bad, after = read_lines(f'{{"a": "one"}}\n{line}\n{{"a": "two"}}\n')
    assert (good.cells, after.cells) == ({"a": "one"}, {"a": "two"})
    assert problem in bad.problem


def test_only_line_feeds_end_a_line_of_json() -> None:
    (row,) = read_lines('{"a": "x\u2028y\u2029z\x85w\x7f"}\r\n')
    assert row.cells == {"a": "x\u2028y\u2029z\x85w\x7f"}


def test_json_that_is_not_a_list_of_objects() -> None:
    with pytest.raises(TableError, match=r"m\.json is not a JSON list"):
        list(json_list(io.BytesIO(b"{}"), "m.json"))
    rows = list(json_list(io.BytesIO(b'[{"a": 1}, 2]'), "m.json"))
    assert "m.json, entry 1 is not a JSON object" in rows[1].problem
    with pytest.raises(TableError, match=r"m\.json, line 3 is not valid JSON"):
        parse_json("[\n1,\n]x", "m.json")
