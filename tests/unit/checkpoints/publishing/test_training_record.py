"""Read the training record from the files of a run."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from videocrafter.checkpoints.publishing.training_record import DATA_FORMATS, read_training_record, run_of
from videocrafter.data.sources.specs import FORMATS

WORLD = {"type": "SpriteWorldConfig", "height": 32, "width": 48, "num_frames": 8}


def stage(name: str, steps: int = 100, **task: Any) -> dict[str, Any]:
    optimizer = {"type": "OptimizerConfig", "name": "adamw", "lr": 1e-3, "decay": "cosine", "accumulate": 2}
    return {"name": name, "num_steps": steps, "optimizer": optimizer, "task": {"batch_size": 4, **task}}


def make_run(root: Path, *stages: dict[str, Any], **recipe: Any) -> Path:
    """Write a run folder with a recipe, a checkpoint and a folder of each stage, and a result."""
    data = {"type": "RecipeConfig", "name": "films", "seed": 7, "init": None, "stages": list(stages), **recipe}
    for one in stages:
        finished = root / "stages" / one["name"]
        finished.mkdir(parents=True)
        record = {"num_steps": one["num_steps"], "stage": one, "versions": {"videocrafter": "0.1.0"}}
        (finished / "training.json").write_text(json.dumps(record))
        (root / "checkpoints" / f"{one['name']}-step-00000040").mkdir(parents=True)
    (root / "final").mkdir()
    (root / "final" / "training.json").write_text((finished / "training.json").read_text())
    (root / "config.json").write_text(json.dumps(data))
    return root


def test_a_folder_knows_its_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    run = make_run(tmp_path / "run", stage("low"))
    for inside in ("final", "stages/low", "checkpoints/low-step-00000040"):
        assert run_of(run / inside) == run
    monkeypatch.chdir(run / "final")
    assert run_of(Path()) == run
    for outside in (run, run / "final" / "unet", tmp_path):
        assert run_of(outside) is None


def test_the_stages_that_made_the_weights(tmp_path: Path):
    run = make_run(tmp_path / "run", stage("low", 100), stage("high", 50), stage("detail", 20))

    def stages(folder: str) -> list[tuple[str, int | None, bool]]:
        record = read_training_record(run / folder)
        assert record is not None
        return [(one.name, one.steps, one.is_finished) for one in record.stages]

    assert stages("final") == [("low", 100, True), ("high", 50, True), ("detail", 20, True)]
    assert stages("stages/high") == [("low", 100, True), ("high", 50, True)]
    assert stages("checkpoints/high-step-00000040") == [("low", 100, True), ("high", 40, False)]


def test_what_is_read(tmp_path: Path):
    run = make_run(tmp_path / "run", stage("low", world=WORLD))
    record = read_training_record(run / "final")
    assert record is not None
    assert (record.name, record.recipe["seed"], record.start, record.base) == ("films", 7, None, None)
    assert record.versions == {"videocrafter": "0.1.0"}
    numbers = {
        name: record.stages[0].number(name) for name in ("lr", "batch_size", "height", "num_frames", "missing")
    }
    assert numbers == {"lr": 1e-3, "batch_size": 4, "height": 32, "num_frames": 8, "missing": None}
    assert len(record.sources) == 1
    assert "sprite world" in record.sources[0]


def test_sources_in_every_form_and_without_paths(tmp_path: Path):
    data = {
        "sources": [
            "webvid:/home/bob/webvid/train.csv?root=/home/bob/webvid&weight=2",
            {"type": "OpenVidConfig", "path": "/data/openvid/all.csv", "root": "/data/openvid"},
            "hf://datasets/ann/clips/a.tar",
            "webdataset:https://ann:key@example.org/b.tar?signature=key",
            "/srv/ten_clips",
            {"type": "PairedFolderConfig", "path": "/home/bob"},
            {"type": "NewFormatConfig", "path": "/data/clips.new"},
            "webvid:/elsewhere/webvid/train.csv",
        ]
    }
    measured = {"sources": ["only_measured_on"]}
    run = make_run(
        tmp_path / "run",
        stage("low", data=data, validation=measured),
        stage("high", data={"source": "sprites:?seed=3"}),
    )
    record = read_training_record(run / "final")
    assert record is not None
    assert record.sources == (
        "WebVid train.csv",
        "OpenVid-1M all.csv",
        "captioned files in hf://datasets/ann/clips/a.tar",
        "captioned files in the shards https://example.org/b.tar",
        "captioned files in ten_clips",
        "captioned files",
        "captioned files in clips.new",
        DATA_FORMATS["sprites"][1],
    )
    assert record.hub_datasets == ("ann/clips",)
    assert "/home" not in record.to_json()
    assert "key" not in record.to_json()


def test_names_of_data_formats_match_their_registry():
    registered = {word: config.__name__ for word, config in FORMATS.items()}
    assert {word: kind for word, (kind, _) in DATA_FORMATS.items()}.items() <= registered.items()


def test_where_it_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    make_run(Path("first"), stage("low", world=WORLD), init="vc2-t2v-512", name="first")
    make_run(Path("second"), stage("low"), init="first/final")
    make_run(Path("third"), stage("low"), init=str(tmp_path / "gone"))
    record = read_training_record(Path("second/final"))
    assert record is not None
    assert record.base is not None
    assert record.before is not None
    assert (record.start, record.before.name, record.base.name) == ("first/final", "first", "vc2-t2v-512")
    assert "sprite world" in record.before.sources[0]
    third = read_training_record(Path("third/final"))
    assert third is not None
    assert (third.start, third.before, third.base) == ("gone", None, None)


def test_a_run_that_started_from_itself_ends(tmp_path: Path):
    run = make_run(tmp_path / "run", stage("low"), init=str(tmp_path / "run" / "final"))
    assert read_training_record(run / "final") is not None


def test_what_leaves_says_the_same(tmp_path: Path):
    run = make_run(
        tmp_path / "run", stage("low", 100), stage("high", 50, sources=["webvid:/d/a.csv"]), init="/w/base"
    )
    for inside in ("final", "stages/low", "checkpoints/high-step-00000040"):
        before = read_training_record(run / inside)
        assert before is not None
        away = tmp_path / "away" / inside
        away.mkdir(parents=True)
        (away / "training.json").write_text(before.to_json())
        after = read_training_record(away)
        assert after is not None
        assert (after.recipe, after.start, after.sources, after.versions) == (
            before.recipe,
            before.start,
            before.sources,
            before.versions,
        )
        assert [(one.name, one.steps, one.is_finished) for one in after.stages] == [
            (one.name, one.steps, one.is_finished) for one in before.stages
        ]


def test_a_folder_without_a_record(tmp_path: Path):
    assert read_training_record(tmp_path) is None


@pytest.mark.parametrize("content", ["{", "[]", '"text"'])
def test_damaged_files_are_named(tmp_path: Path, content: str):
    (tmp_path / "training.json").write_text(content)
    with pytest.raises(ValueError, match=r"training\.json is damaged"):
        read_training_record(tmp_path)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["name", "stages", "stage", "task", "type", "init", "num_steps", "sources", "seed", "path"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(st.fixed_dictionaries({}, optional=dict.fromkeys(("num_steps", "stage", "versions", "recipe"), JSON)))
def test_any_json_is_taken(tmp_path_factory: pytest.TempPathFactory, data: dict[str, Any]):
    folder = tmp_path_factory.mktemp("odd")
    (folder / "training.json").write_text(json.dumps(data))
    record = read_training_record(folder)
    if record is not None:
        json.loads(record.to_json())
        assert isinstance(record.sources, tuple)
        assert record.base is None or record.base.name
