import csv
import io
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from videocrafter.cli.generate.prompt_files import PromptFile, PromptRow, read_prompt_file


def read(folder: Path, name: str, text: str) -> PromptFile:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return read_prompt_file(path)


def test_plain_text_has_one_prompt_per_line(tmp_path):
    rows = read(tmp_path, "prompts.txt", "\ufeff# a comment\n\n  a rocket  \na, b: c\n").rows
    assert [row.prompt for row in rows] == ["a rocket", "a, b: c"]
    assert rows[1] == PromptRow(prompt="a, b: c", where=f"{tmp_path}/prompts.txt, line 4")


@pytest.mark.parametrize(("name", "delimiter"), [("p.csv", ","), ("p.tsv", "\t"), ("P.CSV", ",")])
def test_a_table_has_named_columns_and_empty_cells(tmp_path, name, delimiter):
    lines = [
        ["seed", "prompt", "negative_prompt", "fps", "image"],
        ["7", '"a ""big"" cat, asleep"', "night", "12.5", "cat.png"],
        [],
        ["", "a dog", "", "", "dog.png"],
    ]
    rows = read(tmp_path, name, "\n".join(delimiter.join(line) for line in lines)).rows
    assert rows[0] == PromptRow(
        prompt='a "big" cat, asleep',
        negative_prompt="night",
        seed=7,
        fps=12.5,
        image=Path("cat.png"),
        where=f"{tmp_path}/{name}, line 2",
    )
    assert rows[1] == PromptRow(prompt="a dog", image=Path("dog.png"), where=f"{tmp_path}/{name}, line 4")


def test_json_lines_have_keys_and_types(tmp_path):
    text = '{"prompt": "a cat", "seed": 3, "fps": 8, "num_frames": 6}\n\n{"prompt": "", "num_frames": 6}\n'
    found = read(tmp_path, "p.jsonl", text)
    assert [(row.prompt, row.seed, row.fps) for row in found.rows] == [("a cat", 3, 8.0), ("", None, None)]
    assert found.sizes == {"num_frames": 6}


def test_only_line_ends_end_a_prompt(tmp_path):
    prompt = "a cat\u2028on\u2029a\x85mat,\x0b\x0casleep"
    texts = {"p.txt": f"{prompt}\r\n", "p.csv": f'prompt\n"{prompt}"\n', "p.tsv": f"prompt\r\n{prompt}\r\n"}
    texts["p.jsonl"] = json.dumps({"prompt": prompt}, ensure_ascii=False)
    for name, text in texts.items():
        assert [row.prompt for row in read(tmp_path, name, text).rows] == [prompt]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32", "utf-8-sig"])
@pytest.mark.parametrize("name", ["p.txt", "p.csv", "p.jsonl"])
def test_a_byte_order_mark_names_the_encoding(tmp_path, name, encoding):
    text = {"p.txt": "un café", "p.csv": "prompt\nun café", "p.jsonl": '{"prompt": "un café"}'}[name]
    (tmp_path / name).write_bytes(text.encode(encoding))
    assert [row.prompt for row in read_prompt_file(tmp_path / name).rows] == ["un café"]
    (tmp_path / name).write_bytes(text.encode("latin-1"))
    with pytest.raises(ValueError, match="byte 0xE9 is not valid UTF-8; save the file as UTF-8 or convert it"):
        read_prompt_file(tmp_path / name)


prompts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20).map(str.strip)


@given(st.lists(st.tuples(prompts.filter(bool), st.none() | st.integers(0, 2**63 - 1)), min_size=1, max_size=5))
def test_what_is_written_is_read(tmp_path_factory, wanted):
    folder = tmp_path_factory.getbasetemp()
    table = io.StringIO()
    writer = csv.writer(table)
    writer.writerow(["prompt", "seed"])
    writer.writerows([prompt, "" if seed is None else seed] for prompt, seed in wanted)
    objects = "\n".join(json.dumps({"prompt": prompt, "seed": seed}) for prompt, seed in wanted)
    for name, text in (("p.csv", table.getvalue()), ("p.jsonl", objects)):
        assert [(row.prompt, row.seed) for row in read(folder, name, text).rows] == wanted


@pytest.mark.parametrize(
    ("name", "text"),
    [
        # As pandas writes a column with an empty cell.
        ("p.csv", "prompt,seed,width\na,42.0,64.0\nb,,64.0\n"),
        ("p.jsonl", '{"prompt": "a", "seed": 42.0, "width": 64.0}\n{"prompt": "b", "seed": null, "width": 64}\n'),
    ],
)
def test_whole_numbers_may_be_written_as_floats(tmp_path, name, text):
    found = read(tmp_path, name, text)
    assert [row.seed for row in found.rows] == [42, None]
    assert type(found.rows[0].seed) is int
    assert found.sizes == {"width": 64}


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("p.txt", "# only\n", ["p.txt contains no prompts"]),
        ("p.csv", "", ["contains no prompts"]),
        ("p.csv", "prompt\n", ["contains no prompts"]),
        ("p.csv", "a cat\na dog\n", ["p.csv, line 1", "unknown column 'a cat'"]),
        ("p.csv", "prompt,sede\na,1\n", ["unknown column 'sede'; did you mean 'seed'?"]),
        ("p.csv", "prompt,prompt\na,b\n", ["line 1", "twice"]),
        ("p.csv", "seed\n1\n", ["'prompt' is missing"]),
        ("p.csv", "prompt,seed\na,b,3\n", ["p.csv, line 2 has 3 cells", "2 columns", "double quotes"]),
        ("p.csv", "prompt,seed\na,x\n", ["line 2: seed must be a whole number", "'x'"]),
        ("p.csv", "prompt,seed\na,1.5\n", ["line 2: seed must be a whole number", "'1.5'"]),
        ("p.csv", "prompt,seed\na,1e18\n", ["line 2: seed must be a whole number", "'1e18'"]),
        ("p.csv", "prompt,seed\na,-1\n", ["line 2: seed", "'-1'"]),
        ("p.csv", "prompt,fps\na,0\n", ["line 2: fps must be above 0", "'0'"]),
        ("p.csv", "prompt,fps\na,nan\n", ["fps", "'nan'"]),
        ("p.csv", 'prompt\n"a cat\n', ["line 2: a cell begins with a double quote that is never closed"]),
        ("p.csv", "prompt,width\na,64\nb,128\n", ["line 3 sets width to 128", "line 2 to 64", "split the file"]),
        ("p.csv", "prompt,width\na,64\nb,\n", ["width is set in only one of", "line 3 and", "line 2"]),
        ("p.csv", "prompt,width\na,0\n", ["line 2: width", "'0'"]),
        ("p.jsonl", '{"prompt": "a"}\nnonsense\n', ["p.jsonl, line 2 is not valid JSON"]),
        ("p.jsonl", '{"prompt": "a", "prompt": "b"}\n', ["line 1 has the key 'prompt' twice"]),
        ("p.jsonl", '{"prompt": "a", "fps": NaN}\n', ["line 1: fps is nan"]),
        ("p.jsonl", '{"prompt": "a\\u0000"}\n', ["line 1: prompt contains a NUL character"]),
        ("p.jsonl", "[" * 100_000, ["line 1 is not valid JSON", "nested too deeply"]),
        ("p.csv", "prompt;seed\na;1\n", ["line 1 is separated by semicolons"]),
        ("p.txt", "a cat\na\0dog\n", ["line 2 contains a NUL character", "UTF-8"]),
        ("p.jsonl", "[1]\n", ["line 1 is not a JSON object"]),
        ("p.jsonl", '{"prompt": 3}\n', ["line 1: prompt must be text, but is 3"]),
        ("p.jsonl", '{"prompt": "a", "seed": true}\n', ["seed", "True"]),
        ("p.jsonl", '{"prompt": "a", "seed": 1.5}\n', ["seed", "1.5"]),
        ("p.jsonl", '{"prompt": "a", "fps": []}\n', ["fps", "[]"]),
        ("p.jsonl", '{"caption": "a"}\n', ["unknown column 'caption'"]),
        ("p.jsonl", '{"prompt": "a", "height": 8}\n{"prompt": "b"}\n', ["line 2", "height", "all rows or none"]),
        ("p.json", "{}", ["p.json is a .json file", "p.jsonl"]),
    ],
)
def test_the_line_at_fault_is_named(tmp_path, name, text, words):
    with pytest.raises(ValueError) as caught:
        read(tmp_path, name, text)
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message


def test_binary_and_missing_files_are_named(tmp_path):
    (tmp_path / "p.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match=r"p\.txt, line 1: byte 0x00 is not valid UTF-16"):
        read_prompt_file(tmp_path / "p.txt")
    with pytest.raises(FileNotFoundError):
        read_prompt_file(tmp_path / "nowhere.csv")


@given(text=st.text(max_size=60), name=st.sampled_from(["p.txt", "p.csv", "p.jsonl"]))
def test_any_file_gives_rows_or_one_line(tmp_path_factory, text, name):
    path = tmp_path_factory.getbasetemp() / name
    path.write_text(text.encode("utf-8", "replace").decode(), encoding="utf-8")
    complaint = None
    try:
        rows = read_prompt_file(path).rows
    except ValueError as error:
        complaint = str(error)
    assert rows if complaint is None else str(path) in complaint
