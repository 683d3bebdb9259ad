"""The guide to data agrees with the code: its lines parse, its tables are complete, its code runs."""

import re
from pathlib import Path

import pytest

from videocrafter.data.errors import REASONS
from videocrafter.data.sources.specs import FORMATS, parse_source

GUIDE = (Path(__file__).parents[2] / "docs" / "data.md").read_text(encoding="utf-8")
ROWS = [[cell.strip() for cell in line.strip("|").split("|")] for line in GUIDE.splitlines() if line.startswith("|")]
LINES = [row[2].strip("`") for row in ROWS if len(row) == 3 and row[2].startswith("`")]


@pytest.mark.parametrize("line", LINES)
def test_every_line_of_the_guide_stands_for_a_source(line: str):
    assert parse_source(line) is not None


def test_every_format_has_its_line():
    assert {line.partition(":")[0] for line in LINES} == set(FORMATS)


def test_every_reason_is_explained_in_the_words_of_the_code():
    explained = {row[0].strip("`"): row[1] for row in ROWS if len(row) == 2 and row[0].startswith("`")}
    assert explained == REASONS


def test_the_code_of_the_guide_makes_a_configuration():
    code = re.findall(r"^```python\n(.*?)^```", GUIDE, flags=re.MULTILINE | re.DOTALL)[0]
    names: dict[str, object] = {"__name__": "not main"}
    exec(compile(code, "docs/data.md", "exec"), names)
    assert names["config"].image_share == 0.2
