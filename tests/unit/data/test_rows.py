"""Manifests of all formats have the same rows, and errors name the file and the line."""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from videocrafter.data.errors import SourceError
from videocrafter.data.rows import column_names, find_column, read_rows

ROWS = [{"video": "a.mp4", "caption": 'one, "two"\nthree'}, {"video": "b.mp4", "caption": "é ☃"}]

NAMES = ["m.csv", "m.tsv", "m.jsonl", "m.ndjson", "m.json", "m.parquet", "m.csv.gz", "m.jsonl.gz"]


def read_all(path: Path) -> None:
    list(read_rows(str(path), column_names(str(path))))


def cells_of(pattern: str, columns: Sequence[str] = ("video", "caption")) -> list[dict[str, Any]]:
    rows = list(read_rows(pattern, columns))
    assert not any(row.problem for row in rows)
    return [dict(row.cells) for row in rows]


def write_rows(path: Path, rows: list[dict[str, object]]) -> str:
    name = path.name.removesuffix(".gz")
    if name.endswith(".parquet"):
        parquet.write_table(pa.Table.from_pylist(rows), path)
        return str(path)
    open_text = gzip.open if path.suffix == ".gz" else open
    with open_text(path, "wt", encoding="utf-8", newline="") as file:
        if name.endswith((".csv", ".tsv")):
            writer = csv.DictWriter(file, list(rows[0]), delimiter="\t" if "tsv" in name else ",")
            writer.writeheader()
            writer.writerows(rows)
        elif name.endswith(".json"):
            json.dump(rows, file)
        else:
            file.writelines(json.dumps(row) + "\n\n" for row in rows)
    return str(path)


@pytest.mark.parametrize("name", NAMES)
def test_every_format_gives_the_same_rows(tmp_path: Path, name: str) -> None:
    path = write_rows(tmp_path / name, ROWS)
    assert cells_of(path) == ROWS
    assert column_names(path) == ["video", "caption"]


def test_parquet_reads_the_columns_that_are_needed(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "m.parquet", ROWS)
    assert cells_of(path, ["caption"]) == [{"caption": row["caption"]} for row in ROWS]


def test_several_files_are_read_in_order(tmp_path: Path) -> None:
    for number, row in enumerate(ROWS):
        write_rows(tmp_path / f"part-{number}.csv", [row])
    assert cells_of(f"{tmp_path}/part-*.csv") == ROWS


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_every_file_of_a_pattern_needs_the_columns(tmp_path: Path, suffix: str) -> None:
    write_rows(tmp_path / f"part-0.{suffix}", [{"video": "a.mp4", "caption": "one"}])
    write_rows(tmp_path / f"part-1.{suffix}", [{"video": "b.mp4", "text": "two"}])
    with pytest.raises(SourceError, match=rf"part-1\.{suffix} has no column 'caption', but another file"):
        cells_of(f"{tmp_path}/part-*.{suffix}")


@pytest.mark.parametrize("mark", ["utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("name", ["m.csv", "m.jsonl", "m.json"])
def test_a_byte_order_mark_names_the_encoding(tmp_path: Path, name: str, mark: str) -> None:
    path = Path(write_rows(tmp_path / name, ROWS))
    path.write_bytes(path.read_text(encoding="utf-8").encode(mark))
    assert cells_of(str(path)) == ROWS


def test_a_number_that_is_not_finite_matters_only_in_a_column_that_is_read(tmp_path: Path) -> None:
    (tmp_path / "m.jsonl").write_text('{"video": "a.mp4", "caption": "x", "score": NaN}\n')
    assert len(cells_of(str(tmp_path / "m.jsonl"))) == 1
    (row,) = read_rows(str(tmp_path / "m.jsonl"), ["video", "score"])
    assert "line 1: score is nan, expected a finite number" in row.problem


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("m.csv", b"", "has no rows"),
        ("m.csv", b"video,caption\n", "has no rows"),
        ("m.csv", b"video,caption\na.mp4,Jos\xe9\n", r"line 2: byte 0xE9 is not valid UTF-8; save .* or convert"),
        ("m.csv", b"video;caption\na.mp4;a cat\n", "line 1 is separated by semicolons, expected .* commas"),
        ("m.csv", b"video,caption,caption\na,b,c\n", "line 1 names the column 'caption' twice"),
        ("m.csv", b'video,caption\na,"b\nc,d\n', "line 2 to 3: a cell begins with a double quote that is never"),
        ("m.jsonl", b'{"a": \n', "line 1 is not valid JSON"),
        ("m.jsonl", b"[1]\n", "line 1 is not a JSON object"),
        ("m.jsonl", b"[" * 100_000, "line 1 is not valid JSON .nested too deeply"),
        ("m.json", b'{"a": 1}', "is not a JSON list"),
        ("m.parquet", b"PAR1 is not enough", "is not readable as Parquet"),
        ("m.csv.gz", b"\x1f\x8bnot really", "cannot be read"),
        ("m.xlsx", b"", "is not a supported manifest"),
    ],
)
def test_errors_are_one_line(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(SourceError, match=message) as caught:
        read_all(tmp_path / name)
    assert str(tmp_path / name) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_column_of_parquet_occurs_once(tmp_path: Path) -> None:
    table = pa.Table.from_arrays([pa.array(["a"]), pa.array(["b"])], names=["caption", "caption"])
    parquet.write_table(table, tmp_path / "m.parquet")
    with pytest.raises(SourceError, match=r"m\.parquet has the column 'caption' twice"):
        column_names(str(tmp_path / "m.parquet"))


def test_a_manifest_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"no\.csv does not exist; check the path"):
        column_names(str(tmp_path / "no.csv"))


def test_a_missing_column_is_named_with_the_nearest_one() -> None:
    columns = ["video", "Captions", "fps"]
    assert find_column("m.csv", columns, "file", None, ("path", "video")) == "video"
    with pytest.raises(SourceError, match="no column 'caption' or 'text' for the caption; did you mean 'Captions'"):
        find_column("m.csv", columns, "caption", None, ("caption", "text"))
    with pytest.raises(
        SourceError, match="no column 'zzz' for the caption; its columns are 'video', 'Captions', 'fps'"
    ):
        find_column("m.csv", columns, "caption", "zzz", ("fps",))


@given(
    suffix=st.sampled_from([".csv", ".tsv", ".jsonl", ".json", ".parquet", ".csv.gz"]),
    content=st.binary(max_size=200),
)
def test_no_content_is_too_odd(tmp_path_factory: pytest.TempPathFactory, suffix: str, content: bytes) -> None:
    path = tmp_path_factory.mktemp("odd") / f"m{suffix}"
    path.write_bytes(content)
    try:
        read_all(path)
    except SourceError as error:
        message = str(error)
    else:
        return
    assert "\n" not in message
