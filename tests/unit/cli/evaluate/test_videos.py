import json
import shutil

import pytest

from tests.unit.media.clips import moving_disc
from videocrafter.evaluation.evaluation_run import RESULTS
from videocrafter.evaluation.metrics.networks import Networks
from videocrafter.media.video_file import write_video


@pytest.fixture(autouse=True)
def _without_networks(monkeypatch):
    """Leave out the default network, which takes seconds."""
    monkeypatch.setattr("videocrafter.evaluation.metrics.networks.is_installed", lambda: False)
    assert Networks().sha256 == {}


@pytest.fixture
def folder(tmp_path):
    for index in range(3):
        frames = moving_disc(3, 32, 32)
        frames[..., 1] += index
        write_video(tmp_path / "videos" / f"{index}.mp4", frames, 8, {"prompt": f"prompt {index}", "seed": 0})
    return tmp_path / "videos"


def test_a_folder_becomes_a_table_and_a_report(cli, folder, tmp_path):
    result = cli("evaluate", folder, "-o", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert "sharpness" in result.stdout
    assert "clip_score" in result.stdout  # named as missing
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["protocol"]["name"] == "standard"
    assert report["videos"]["count"] == 3
    assert (tmp_path / "out" / "report.html").read_text().startswith("<!doctype html>")
    assert len((tmp_path / "out" / "measurements.jsonl").read_text().splitlines()) == 3
    assert len(list((tmp_path / "out" / RESULTS).glob("*.json"))) == 3
    again = cli("evaluate", folder, "-o", tmp_path / "out")
    assert (again.exit_code, "already exists" in again.stderr) == (2, True)
    compared = cli("evaluate", folder, "-o", tmp_path / "second", "--against", tmp_path / "out")
    assert "difference" in compared.stdout
    differences = json.loads((tmp_path / "second" / "report.json").read_text())["differences"]
    assert differences["sharpness"]["verdict"] == "no verdict with fewer than 6 prompts"


def test_a_report_inside_the_folder_of_videos_is_no_table_of_videos(cli, folder, tmp_path):
    assert cli("evaluate", folder, "-o", folder).exit_code == 0
    again = cli("evaluate", folder, "-o", tmp_path / "second", "--against", folder)
    assert "3 videos, 3 prompts" in again.stdout, again.output
    assert json.loads((tmp_path / "second" / "report.json").read_text())["problems"] == []


def test_what_cannot_be_compared_fails_before_the_work(cli, folder, tmp_path, monkeypatch):
    monkeypatch.setattr("videocrafter.evaluation.measuring.Measurer.measure", lambda *_: pytest.fail("measured"))
    for option in ("--against", "--reference"):
        result = cli("evaluate", folder, "-o", tmp_path / "out", option, tmp_path / "gone")
        assert (result.exit_code, "gone" in result.stderr) == (2, True), option


def test_a_model_generates_the_prompts_and_is_measured(cli, t2v_folder, tmp_path):
    (tmp_path / "prompts.txt").write_text("a red kite\na blue boat\n")
    arguments = (
        "evaluate",
        t2v_folder,
        "--protocol",
        "standard",
        "--prompts",
        tmp_path / "prompts.txt",
        "--steps",
        1,
    )
    result = cli(*arguments, "-o", tmp_path / "out")
    assert result.exit_code == 0, result.output
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["videos"]["count"] == 2
    assert report["videos"]["generation"]["settings"] == {"num_inference_steps": 1}
    assert report["protocol"]["content"]["num_prompts"] == 2
    assert sorted(path.name for path in (tmp_path / "out" / "videos").glob("*.mp4")) == ["0000-0.mp4", "0001-0.mp4"]
    # Videos of other seeds that an earlier run left do not count.
    shutil.copy(tmp_path / "out" / "videos" / "0000-0.mp4", tmp_path / "out" / "videos" / "0000-9.mp4")
    again = cli(*arguments, "-o", tmp_path / "out", "--overwrite")
    assert "2 videos, 2 prompts" in again.stdout, again.output


def test_wrong_options_are_one_line(cli, folder, t2v_folder, tmp_path):
    (tmp_path / "other.txt").write_text("another prompt\n")
    for arguments, words in (
        ([tmp_path / "gone"], "gone"),
        ([folder, "--protocol", "exam"], "is not a model"),
        ([folder, "--protocol", "standart"], "did you mean 'standard'"),
        ([folder, "--judge", tmp_path], "--judge does not apply to protocol standard"),
        ([t2v_folder, "--reference", folder], "--reference does not apply to protocol exam"),
        ([t2v_folder, "--sd-images", folder], "--sd-images does not apply to protocol exam"),
        ([folder, "--steps", "3"], "--steps and --guidance are for models"),
        ([folder, "--batch-size", "0"], "expected at least 1"),
        ([folder, "--protocol", "evalcrafter"], "needs its prompts (metadata.json"),
        ([folder, "--protocol", "evalcrafter", "--prompts", tmp_path / "other.txt"], "requires eabad4a1"),
        ([folder, "--weights", tmp_path / "gone"], "is not a folder"),
        ([folder, "--clip", tmp_path], "is not a readable CLIP model"),
        ([folder, "--prompts", "500"], "expected 1 to 200"),
        ([t2v_folder, "--protocol", "vbench"], "needs prompts"),
        ([t2v_folder, "--prompts", "many.txt"], "takes their number"),
    ):
        result = cli("evaluate", *arguments, "-o", tmp_path / "out")
        assert result.exit_code == 2, arguments
        assert words in result.stderr, arguments
        assert result.stderr.count("\n") == 1, arguments
    assert not (tmp_path / "out" / "report.json").exists()
