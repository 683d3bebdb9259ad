"""Read JSON that may be damaged or hostile."""

import codecs
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from videocrafter.media.json_file import parse_json_object, read_json_object

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(
    value=st.dictionaries(st.text(), VALUES, max_size=4), encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16"])
)
def test_every_object_is_read_as_json_reads_it(value: dict[str, object], encoding: str):
    assert parse_json_object(json.dumps(value).encode(encoding), "x") == value


@given(data=st.binary(max_size=60) | st.text(max_size=60).map(lambda text: f'{{"a": {text}'.encode()))
def test_any_other_bytes_are_a_value_error_of_one_line(data: bytes):
    complaint = ""
    try:
        parse_json_object(data, "file.json")
    except ValueError as error:
        complaint = str(error)
    assert complaint == "" or complaint.startswith("file.json is damaged: ")
    assert "\n" not in complaint


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"a":' * 100_000, "nested too deeply"),
        ("[" * 100_000, "nested too deeply"),
        ('{"a": %s}' % ("1" * 5000), "not readable as JSON"),
        ('{"a": {"b": 1, "b": 2}}', "the key 'b' appears twice"),
        ("[1]", "expected a JSON object, found a list"),
        ("3", "found a number"),
        ("null", "found null"),
        ("", "not readable as JSON"),
    ],
)
def test_hostile_text(text: str, reason: str):
    with pytest.raises(ValueError, match=reason):
        parse_json_object(text, "file.json")


def test_files(tmp_path: Path):
    path = tmp_path / "a.json"
    with pytest.raises(ValueError, match=r"a.json is missing"):
        read_json_object(path)
    with pytest.raises(ValueError, match="is not a file"):
        read_json_object(tmp_path)
    path.write_bytes(codecs.BOM_UTF8 + b'{"a": 1}')
    assert read_json_object(path) == {"a": 1}
    with path.open("wb") as file:
        file.truncate(100 * 2**20)
    with pytest.raises(ValueError, match="104,857,600 bytes"):
        read_json_object(path)
