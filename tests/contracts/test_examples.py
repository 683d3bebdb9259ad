"""The examples run, with one step each, and write the files that their docstrings name."""

import importlib.util
import re
from pathlib import Path

import pytest

from videocrafter.media.image_file import read_image

FOLDER = Path(__file__).parents[2] / "examples"
EXAMPLES = sorted(FOLDER.glob("*.py"))


def test_there_are_examples():
    assert len(EXAMPLES) >= 5


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_runs(path: Path, tmp_path: Path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    example.main(tmp_path, num_inference_steps=1)
    assert f"python examples/{path.name} FOLDER" in example.__doc__
    for name in re.findall(r"\w+\.(?:mp4|gif|png)", example.__doc__):
        assert (tmp_path / name).stat().st_size > 0
    assert read_image(tmp_path / f"{path.stem}.png").std() > 10
