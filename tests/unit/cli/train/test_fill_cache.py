from __future__ import annotations

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.tiny_models import save_tiny_pipeline
from videocrafter.cli.main import app

runner = CliRunner()

SMALL = [
    *("--set", "stages.*.task.data.image_share=none"),
    *("--set", "stages.*.task.data.cutting.height=16"),
    *("--set", "stages.*.task.data.cutting.width=16"),
    *("--set", "stages.*.task.data.cutting.sampling.lengths=4"),
    *("--set", "stages.*.task.validation.num_clips=1"),
    *("--device", "cpu", "--num-workers", "0"),
]
CLIPS = ["--data", "sprites:?num_clips=3&num_frames=6&height=16&width=16"]


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_tiny_pipeline(tmp_path_factory.mktemp("start") / "t2v", image=False))


def test_it_says_what_it_did_how_large_it_is_and_where(start: str, tmp_path: Path) -> None:
    command = ["cache", "t2v-256", *CLIPS, "--init", start, "--cache", str(tmp_path / "kept"), *SMALL]
    first = runner.invoke(app, command)
    assert first.exit_code == 0, first.output
    told = re.search(r"12 clips added, 0 already cached, 0 skipped in \d:\d\d:\d\d: (.*), ([\d.]+) MB", first.stderr)
    assert told is not None, first.stderr
    assert told[1] == str(tmp_path / "kept")
    assert 0 < float(told[2]) < 1
    assert re.search(
        r"note: \d of \d encoded captions are longer than the 10 tokens that the text encoder", first.stderr
    )
    again = runner.invoke(app, command)
    assert "0 clips added, 12 already cached, 0 skipped" in again.stderr


def test_training_may_name_the_same_folder(start: str, tmp_path: Path) -> None:
    result = runner.invoke(
        app, ["train", "t2v-256", *CLIPS, "--init", start, "--cache", str(tmp_path / "kept"), "--dry-run"]
    )
    assert f'"folder": "{tmp_path / "kept"}"' in result.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["cache", "t2v-255"], "there is no recipe 't2v-255'; did you mean t2v-256?"),
        (["cache", "t2v-256", *CLIPS, "--init", "{start}"], "pass --cache DIR"),
        (["cache", "t2v-256", *CLIPS, "--cache", "{kept}"], "pass --init FOLDER"),
        (["cache", "t2v-256", "--init", "{start}", "--cache", "{kept}"], "pass your clips with --data"),
        (
            ["cache", "t2v-256", *CLIPS, "--init", "nowhere", "--cache", "{kept}"],
            "neither a folder nor a model's name",
        ),
        (
            ["cache", "t2v-256", "--data", "nowhere", "--init", "{start}", "--cache", "{kept}"],
            "'nowhere' is not a folder",
        ),
        (["cache", "t2v-256", *CLIPS, "--init", "{start}", "--cache", "{file}"], "is a file; choose a folder"),
        (["cache", "t2v-256", *CLIPS, "--init", "{start}", "--cache", "{start}"], "is not a cache"),
        (["cache", "t2v-256", *CLIPS, "--init", "{start}", "--cache", "{kept}", "--set", "x=1"], "no such setting"),
        (["cache", "smoke", "--cache", "{kept}"], "does not use a cache; remove --cache"),
        (["train", "smoke", "--cache", "{kept}", "--dry-run"], "does not use a cache; remove --cache"),
        (["cache", "smoke"], "renders its own clips"),
        (
            ["train", "t2v-256", *CLIPS, "--init", "{start}", "--cache", "{kept}", "-o", "{run}"]
            + ["--set", "stages.*.task.cache.fill=never"],
            "there is no cache in",
        ),
    ],
)
def test_bad_input_is_one_line_and_status_2(start: str, tmp_path: Path, arguments: list[str], said: str) -> None:
    (tmp_path / "file").touch()
    places = {
        "{start}": start,
        "{kept}": str(tmp_path / "kept"),
        "{file}": str(tmp_path / "file"),
        "{run}": str(tmp_path / "run"),
    }
    small = SMALL if "cache" in arguments[:1] else SMALL[:-2]
    command = [places.get(argument, argument) for argument in arguments]
    result = runner.invoke(app, command if "smoke" in arguments else [*command, *small])
    assert result.exit_code == 2, result.output
    assert said in result.stderr
    assert len([line for line in result.stderr.splitlines() if line.startswith("Error: ")]) == 1
    assert "Traceback" not in result.stderr


def test_a_cache_of_other_size_is_refused_by_name(start: str, tmp_path: Path) -> None:
    command = ["cache", "t2v-256", *CLIPS, "--init", start, "--cache", str(tmp_path), *SMALL]
    assert runner.invoke(app, command).exit_code == 0
    result = runner.invoke(app, [*command, "--set", "stages.*.task.data.cutting.height=32"])
    assert result.exit_code == 2
    assert "was made with other settings (cutting.height was 16, now 32" in result.stderr
