"""`videocrafter train` on clips from files: wrong arguments and their messages."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from tests.tiny_clips import SPRITE_IMAGES, SPRITES, write_clips
from tests.unit.cli.conftest import Run
from videocrafter.training.video.task import ClipDiffusionTask

SMALL = {
    "num_steps": 2,
    "precision": "fp32",
    "optimizer.accumulate": 1,
    "validate_every": 0,
    "sample_every": 0,
    "task.frozen_weights": "fp32",
    "task.data.image_share": "none",
    "task.data.batch_size": 1,
    "task.data.num_workers": 0,
    "task.data.cutting.height": 16,
    "task.data.cutting.width": 16,
    "task.data.cutting.sampling.lengths": 4,
}


def settings(**changes: Any) -> list[str]:
    """`SMALL` as arguments, with changes: two underscores stand for a dot."""
    values = {**SMALL, **{f"task.{name.replace('__', '.')}": value for name, value in changes.items()}}
    return [part for path, value in values.items() for part in ("--set", f"stages.*.{path}={value}")]


@pytest.fixture
def train(cli: Run, tmp_path: Path) -> Run:
    """`videocrafter train t2v-256` at a tiny size into `tmp_path / "run"`."""

    def run(*arguments: object, **changes: Any) -> Any:
        return cli("train", "t2v-256", "-o", tmp_path / "run", "--device", "cpu", *settings(**changes), *arguments)

    return run


def only_error(result: Any) -> str:
    assert result.exit_code == 2, result.output
    assert "Traceback" not in result.stderr
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
    assert result.stderr.endswith(line + "\n"), "nothing comes behind it"
    return str(line.removeprefix("Error: "))


def test_data_and_init_are_short_for_settings(cli: Run) -> None:
    shown = cli("train", "i2v-512", "--dry-run", "--data", "one", "--data", "webvid:two?root=a,b", "--init", "start")
    recipe = json.loads(shown.stdout)
    assert recipe["init"] == "start"
    for stage in recipe["stages"]:
        assert stage["task"]["data"]["sources"] == ["one", "webvid:two?root=a,b"], "with its comma"


def test_prompts_with_commas_go_there_and_come_back(cli: Run) -> None:
    prompts = ["a cat, at night", 'a sign that says "open"', "ein Bär"]
    path = "stages.*.task.samples.prompts"
    once = json.loads(cli("train", "t2v-256", "--dry-run", "--set", f"{path}={json.dumps(prompts)}").stdout)
    shown = once["stages"][0]["task"]["samples"]["prompts"]
    assert shown == prompts
    again = cli("train", "t2v-256", "--dry-run", "--set", f"{path}={json.dumps(shown, ensure_ascii=False)}")
    assert json.loads(again.stdout) == once


def test_recipes_that_make_their_own_clips_take_no_data(cli: Run) -> None:
    said = only_error(cli("train", "smoke", "--dry-run", "--data", "clips"))
    assert said == "the recipe 'smoke' generates its own clips; remove --data"


def test_without_a_start(train: Run) -> None:
    said = only_error(train("--data", SPRITES))
    assert said.startswith(
        "stage 't2v-256' cannot be built: it starts from a pipeline, and none was named; give --init"
    )


@pytest.mark.parametrize("init", ["nowhere", "t2v-265"])
def test_a_start_that_is_not_there(train: Run, tmp_path: Path, init: str) -> None:
    said = only_error(train("--data", SPRITES, "--init", init))
    assert said.startswith(
        f"--init is '{init}', which is neither a folder nor a model's name; give a pipeline folder"
    )
    assert not (tmp_path / "run").exists()


def test_a_folder_that_is_no_start(train: Run, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert "is not a pipeline folder: model_index.json is missing" in only_error(
        train("--data", SPRITES, "--init", tmp_path / "empty")
    )


def test_without_data(train: Run, t2v_folder: Path) -> None:
    said = only_error(train("--init", t2v_folder))
    assert "task.data.sources is empty; name your clips with --data, such as --data folder:/path/to/clips" in said


@pytest.mark.parametrize(
    ("source", "wanted"),
    [
        ("{tmp}/nowhere", "is not a folder and has no known format"),
        ("webvit:{tmp}", "unknown format 'webvit'; did you mean 'webvid'?"),
        ("folder:{tmp}", "contains no videos or images"),
        ("webvid:{tmp}/train.csv?root={tmp}", "train.csv has no column 'page_dir'"),
        ("webvid:{tmp}/train.csv", "webvid needs 'root'"),
        ("sprites:?num_clip=3", "sprites has no option 'num_clip'; did you mean 'num_clips'?"),
    ],
)
def test_data_that_cannot_be_used(train: Run, t2v_folder: Path, tmp_path: Path, source: str, wanted: str) -> None:
    (tmp_path / "train.csv").write_text("videoid,name\n1,a cat\n")
    said = only_error(train("--init", t2v_folder, "--data", source.format(tmp=tmp_path)))
    assert said.startswith("the data of stage 't2v-256' cannot be read: ")
    assert wanted in said


@pytest.mark.parametrize(
    ("sources", "share", "typed"),
    [((SPRITES,), 0.125, "none"), ((SPRITE_IMAGES,), 0.125, "none"), ((SPRITES, SPRITE_IMAGES), "none", "0.125")],
)
def test_an_image_share_says_what_to_type_and_that_helps(
    train: Run, t2v_folder: Path, sources: tuple[str, ...], share: object, typed: str
) -> None:
    data = [part for source in sources for part in ("--data", source)]
    said = only_error(train("--init", t2v_folder, *data, data__image_share=share))
    typing = f"stages.*.task.data.image_share={typed}"
    assert said.endswith(f"(--set '{typing}')")
    mended = train("--init", t2v_folder, *data, "--set", typing, data__image_share=share)
    assert mended.exit_code == 0, mended.stderr


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ({"data__cutting__height": 20}, "gives samples of 16x20 pixels; this model takes multiples of 8"),
        ({"phase": "image_mapping"}, "the start has no image branch; set task.image_tower"),
        ({"phase": "image_mapping", "image_tower": "nowhere"}, "task.image_tower is 'nowhere', which holds no image"),
        ({"phase": "image_to_video"}, "train phase 'image_mapping' first"),
        ({"signal_scale": 0.7}, "signal_scale is 0.7, but the start's schedule is not the paper's"),
        ({"validation__sources": "nowhere"}, "'nowhere' is not a folder"),
    ],
)
def test_what_does_not_fit_the_start_or_the_data_is_found_before_the_first_step(
    train: Run, t2v_folder: Path, tmp_path: Path, changes: dict[str, Any], wanted: str
) -> None:
    assert wanted in only_error(train("--init", t2v_folder, "--data", SPRITES, **changes))
    assert not list((tmp_path / "run/checkpoints").glob("*"))


@pytest.mark.parametrize(
    ("setting", "wanted"),
    [
        (
            "stages.*.task.data.batchsize=1",
            "there is no such setting; did you mean stages.t2v-256.task.data.batch_size?",
        ),
        ("stages.*.task.source.sources=a", "did you mean stages.t2v-256.task.data.sources?"),
        ("stages.*.task.data.epochs=2", "data.epochs is 2; num_steps sets the training length"),
        ("stages.*.task.samples.num_inference_steps=0", "samples.num_inference_steps is 0; expected 1 to 1000"),
        ("stages.*.task.data=x", "this is a group of settings; set one of them, such as stages.*.task.data.sources"),
    ],
)
def test_settings_are_checked_by_a_dry_run(cli: Run, setting: str, wanted: str) -> None:
    assert wanted in only_error(cli("train", "t2v-256", "--dry-run", "--set", setting))


def test_too_many_bad_samples_end_the_run_and_their_report_is_named(
    train: Run, t2v_folder: Path, tmp_path: Path
) -> None:
    clips = write_clips(tmp_path / "clips", 5)
    for path in clips.glob("*.mp4"):
        path.write_bytes(b"no video")
    said = only_error(train("--init", t2v_folder, "--data", clips))
    report = tmp_path / "run" / "left_out.jsonl"
    assert "were skipped, but max_bad_share allows 5.0%" in said
    assert str(report) in said
    named = [json.loads(line)["key"] for line in report.read_text().splitlines()]
    assert 1 < len(named) == len(set(named)) <= 5
    write_clips(tmp_path / "good", 5)
    good = train("--init", t2v_folder, "--data", tmp_path / "good", "--overwrite")
    assert good.exit_code == 0, good.stderr
    assert not report.exists(), "the old run's report goes with it"


def test_data_that_vanish_under_way_end_the_run_with_one_line(
    train: Run, t2v_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clips = write_clips(tmp_path / "clips", 2)
    shard = tmp_path / "shard.tar"
    with tarfile.open(shard, "w") as archive:
        for path in sorted(clips.iterdir()):
            archive.add(path, path.name)
    open_data = ClipDiffusionTask.open_data

    def open_and_lose(task: ClipDiffusionTask, *given: Any) -> None:
        open_data(task, *given)
        shard.write_bytes(b"")

    monkeypatch.setattr(ClipDiffusionTask, "open_data", open_and_lose)
    said = only_error(train("--init", t2v_folder, "--data", f"webdataset:{shard}"))
    assert "no shard has a readable sample; check the files" in said or "samples were skipped" in said
