"""A run goes from a folder of films to shards that training reads, and a second run repeats nothing."""

import json
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest

from tests.unit.preparation.films import dissolve, shot, small_config, write_film
from tests.unit.preparation.inline_engine import InlineEngine
from videocrafter.data.loader import VideoLoader
from videocrafter.data.loader_config import LoaderConfig
from videocrafter.preparation import run as running
from videocrafter.preparation.failures import PreparationError, UnitError
from videocrafter.preparation.labels import fit, propose, write_label_page
from videocrafter.preparation.parquet_file import read_parquet
from videocrafter.preparation.run import prepare, preview
from videocrafter.preparation.select import Step
from videocrafter.preparation.units import fail_unit

KEPT = ("settings.json", "plan.parquet", "manifest.parquet", "sources.parquet", "shards.parquet", "dataset.json")


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    """Three good films, a copy, and three bad files."""
    folder = tmp_path_factory.mktemp("films")
    one = shot(1, 60) + shot(2, 60, "frozen") + shot(3, 60, "bars")
    write_film(folder / "one.mp4", one)
    (folder / "one.txt").write_text("shapes cross a coloured ground")
    before, after = shot(4, 60), shot(5, 60)
    write_film(folder / "two.mp4", before + dissolve(before[-1], after[0], 12) + after)
    (folder / "two.txt").write_text("circles on a pattern")
    write_film(folder / "sub" / "whole.mp4", shot(6, 72))
    (folder / "sub" / "whole.txt").write_text("discs fly over a meadow")
    small = [np.ascontiguousarray(frame[::2, ::2]) for frame in shot(6, 72)]
    write_film(folder / "copy.mp4", small, crf="24")
    (folder / "text.mp4").write_text("not a video")
    (folder / "cut.mp4").write_bytes((folder / "one.mp4").read_bytes()[:3000])
    write_film(folder / "short.mp4", shot(7, 20))
    return folder


@pytest.fixture
def engines(monkeypatch):
    """Replace processes by this one; returns the engines of the runs."""
    made: list[InlineEngine] = []

    def engine(name: str, job: object) -> InlineEngine:
        made.append(InlineEngine(job, backwards=True))
        return made[-1]

    monkeypatch.setattr(running, "_engine", engine)
    return made


@pytest.fixture(scope="module")
def first_run(films, tmp_path_factory):
    """An output folder and the summary of its run."""
    out = tmp_path_factory.mktemp("first") / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(running, "_engine", lambda name, job: InlineEngine(job))
        return out, prepare([str(films)], out, small_config("shard.max_clips=2"))


@pytest.fixture
def prepared(first_run, tmp_path):
    """A copy of the first run."""
    shutil.copytree(first_run[0], tmp_path / "out")
    return tmp_path / "out", first_run[1]


def contents(out: Path) -> dict[str, bytes]:
    """Everything that must not depend on when and where it was made."""
    paths = [
        *(out / name for name in KEPT),
        *out.glob("shards/*"),
        *out.glob("validation/*"),
        *out.glob("work/*/*/*"),
    ]
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in paths}


def test_a_folder_becomes_shards(prepared):
    out, summary = prepared
    clips = {(row["name"], round(row["start_s"], 1)): row for row in read_parquet(out / "manifest.parquet")}
    assert {key: row["reason"] for key, row in clips.items()} == {
        ("one.mp4", 0.0): "",
        ("one.mp4", 2.6): "frozen",
        ("one.mp4", 5.1): "",
        ("two.mp4", 0.0): "",
        ("two.mp4", 3.1): "",
        ("sub/whole.mp4", 0.0): "",
        ("copy.mp4", 0.0): "copy",
    }
    assert (summary.videos, summary.kept, summary.in_shards) == (7, 5, 5)
    assert {row["reason"] for row in read_parquet(out / "failures.parquet")} == {"unreadable", "too_short"}
    assert summary.shards == [f"shards/{number:06d}.tar" for number in range(len(summary.shards))]
    assert not list(out.glob("shards/.*"))


def test_clips_have_the_frames_of_the_film_without_bars(prepared):
    out, _ = prepared
    rows = {row["id"]: row for row in read_parquet(out / "manifest.parquet")}
    whole = next(row for row in rows.values() if row["name"] == "sub/whole.mp4")
    bars = next(row for row in rows.values() if row["crop"][0] > 0)
    # The whole file is one shot, so that it is copied.
    assert (whole["copied"], whole["height"], whole["frames"]) == (True, 90, 72)
    assert (bars["copied"], bars["width"]) == (False, 160)
    assert 62 <= bars["height"] <= 68
    assert bars["frames"] == 57


def test_members_are_what_other_tools_expect(prepared):
    out, summary = prepared
    with tarfile.open(out / summary.shards[0]) as tar:
        names = tar.getnames()
        assert [Path(name).suffix for name in names] == [".json", ".mp4", ".txt"] * (len(names) // 3)
        assert {(member.mtime, member.uid, member.mode) for member in tar} == {(0, 0, 0o644)}
        member = tar.extractfile(names[0])
        assert member is not None
        description = json.loads(member.read())
    assert description["id"] == names[0].removesuffix(".json")
    assert description["motion"] > 0
    assert "thumbnail" not in description


def test_training_reads_the_shards(prepared):
    out, _ = prepared
    with VideoLoader(LoaderConfig(sources=(str(out / "shards"),), num_workers=0, epochs=1)) as loader:
        captions = [caption for batch in loader for caption in batch.captions]
    assert sorted(captions) == [
        *["circles on a pattern"] * 2,
        "discs fly over a meadow",
        *["shapes cross a coloured ground"] * 2,
    ]


def test_a_second_run_repeats_nothing_and_changes_no_byte(films, prepared, engines):
    out, _ = prepared
    before = contents(out)
    prepare([str(films)], out, small_config("shard.max_clips=2"))
    assert engines[-1].done == []
    assert contents(out) == before


def test_another_order_gives_the_same_bytes(films, prepared, tmp_path, engines):
    out, _ = prepared
    other = tmp_path / "other"
    prepare([str(films)], other, small_config("shard.max_clips=2"))
    assert contents(other) == contents(out)


def test_other_settings_are_refused_named_and_possible(films, prepared, engines):
    out, _ = prepared
    config = small_config("shard.max_clips=2", "select.floors.max_frozen=1.0")
    with pytest.raises(PreparationError, match=r"select.floors.max_frozen was 0.5 and is now 1.0"):
        prepare([str(films)], out, config)
    assert (out / "dataset.json").exists()
    summary = prepare([str(films)], out, config, change_settings=True)
    assert summary.in_shards == 6
    # Only the new clip is encoded; scans are kept.
    assert [line.split()[0] for line in engines[-1].done if not line.startswith("shard")] == ["clip"]
    back = prepare([str(films)], out, small_config("shard.max_clips=2"), change_settings=True)
    assert back.in_shards == 5
    assert sorted(path.name for path in out.glob("shards/*.tar")) == sorted(Path(name).name for name in back.shards)


def test_a_preview_writes_nothing(films, prepared):
    out, _ = prepared
    before = contents(out)
    found = preview([str(films)], out, small_config("shard.max_clips=2", "select.floors.max_frozen=1.0"))
    assert sum(row["kept"] for row in found.selection.rows) == 6
    assert found.waiting == 0
    assert contents(out) == before


def test_a_folder_with_other_files_is_left_alone(films, tmp_path, engines):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(PreparationError, match="contains other files"):
        prepare([str(films)], tmp_path, small_config())


def test_sources_and_output_are_apart(films, prepared, engines):
    with pytest.raises(PreparationError, match="is inside the source"):
        prepare([str(films)], films / "out", small_config())
    with pytest.raises(PreparationError, match="is inside the output"):
        prepare([str(prepared[0] / "work")], prepared[0], small_config("shard.max_clips=2"))
    assert not (films / "out").exists()


def test_clips_listed_twice_are_one_and_keep_the_first_caption(films, tmp_path, engines):
    rows = [
        {"video": "one.mp4", "caption": "first words of it", "from": 0, "to": 2},
        {"video": "one.mp4", "caption": "other words of it", "from": 0, "to": 2},
        {"video": "one.mp4", "caption": "a long way past the end", "from": 90, "to": 95},
    ]
    (tmp_path / "clips.jsonl").write_text("\n".join(map(json.dumps, rows)))
    out = tmp_path / "out"
    summary = prepare(
        [f"manifest:{tmp_path / 'clips.jsonl'}?start=from&end=to&root={films}"], out, small_config("clip.copy=false")
    )
    assert summary.in_shards == 1
    [clip] = read_parquet(out / "manifest.parquet")
    assert (clip["caption_short"], len(clip["id"])) == ("first words of it", 16)
    messages = {row["reason"]: row["message"] for row in read_parquet(out / "failures.parquet")}
    assert "'other words of it'" in messages["duplicate"]
    assert "from 90 to 95 s" in messages["no_such_clip"]


def test_a_source_that_is_away_for_a_while_is_no_lasting_failure(tmp_path, engines):
    folder = tmp_path / "films"
    write_film(folder / "a.mp4", shot(1, 60))
    config = small_config("caption.text=a film")
    video = folder / "a.mp4"

    class Away(InlineEngine):
        def run(self, units, on_done):
            if units[0].stage == "clip":
                video.rename(tmp_path / "away")
            super().run(units, on_done)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(running, "_engine", lambda name, job: Away(job))
        assert prepare([str(folder)], tmp_path / "out", config).failures == {"missing": 1}
    (tmp_path / "away").rename(video)
    assert prepare([str(folder)], tmp_path / "out", config).in_shards == 1


def test_videos_without_captions_are_refused_before_any_work(films, tmp_path, engines):
    with pytest.raises(PreparationError, match=r"none of the 1 videos has a caption.*caption.text"):
        prepare([str(films / "copy.mp4")], tmp_path / "out", small_config())
    assert engines == []
    summary = prepare([str(films / "copy.mp4")], tmp_path / "out", small_config("caption.text=a film"))
    assert summary.in_shards == 1


def test_too_many_bad_videos_stop_the_run(films, tmp_path, engines):
    with pytest.raises(PreparationError, match=r"2 of 7 videos are bad \(2 unreadable\)"):
        prepare([str(films)], tmp_path / "out", small_config("limits.min_judged=5"))


def test_only_failures_of_whole_videos_stop_the_run(films, tmp_path, engines):
    rows = [
        {"video": "one.mp4", "caption": "a part of it", "from": 0, "to": 2},
        {"video": "one.mp4", "caption": "a long way past the end", "from": 90, "to": 95},
    ]
    (tmp_path / "clips.jsonl").write_text("\n".join(map(json.dumps, rows)))
    source = f"manifest:{tmp_path / 'clips.jsonl'}?start=from&end=to&root={films}"

    class Failing(InlineEngine):
        def run(self, units, on_done):
            if units[0].stage == "clip":
                for unit in units:
                    fail_unit(unit, self._job, UnitError("crashed", "the encoder crashes"))
            super().run([unit for unit in units if unit.stage != "clip"], on_done)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(running, "_engine", lambda name, job: Failing(job))
        summary = prepare([source], tmp_path / "out", small_config("limits.min_judged=1"))
    assert summary.failures == {"no_such_clip": 1, "crashed": 1}


def test_a_data_set_that_is_being_written_does_not_look_finished(films, prepared):
    out, _ = prepared

    class Stopping(InlineEngine):
        def run(self, units, on_done):
            if units[0].stage == "shard":
                raise KeyboardInterrupt
            super().run(units, on_done)

    (out / "shards" / "000000.tar").unlink()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(running, "_engine", lambda name, job: Stopping(job))
        with pytest.raises(KeyboardInterrupt):
            prepare([str(films)], out, small_config("shard.max_clips=2"))
    assert not (out / "dataset.json").exists()


def test_a_data_set_that_loses_a_shard_does_not_look_finished(films, prepared, monkeypatch):
    out, _ = prepared
    (out / "shards" / "000099.tar").write_bytes(b"")

    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(running, "_engine", lambda name, job: InlineEngine(job))
    monkeypatch.setattr(running, "write_parquet", stop)
    with pytest.raises(KeyboardInterrupt):
        prepare([str(films)], out, small_config("shard.max_clips=2"))
    assert not (out / "shards" / "000099.tar").exists()
    assert not (out / "dataset.json").exists()


def test_the_report_shows_filters_failures_and_pictures(prepared):
    out, _ = prepared
    page = (out / "report.html").read_text()
    assert page.count("<img") > 10
    assert page.count("<svg") >= 10
    assert "frozen" in page
    assert "unreadable: 2" in page
    assert "http" not in page.replace("http-equiv", "")


def test_a_filter_is_calibrated_by_eye(prepared, tmp_path):
    out, _ = prepared
    page, count = write_label_page(out, "frozen", 4)
    text = page.read_text()
    assert count == text.count("<figure id") == 3
    assert text.count("data:image/jpeg;base64,/9j/") == 3
    rows = list(read_parquet(out / "manifest.parquet"))
    answers = {row["id"]: "drop" if row["frozen"] > 0.5 else "keep" for row in rows}
    (tmp_path / "labels.json").write_text(json.dumps(answers))
    found = propose(out, "frozen", tmp_path / "labels.json")
    assert (found.threshold, found.precision, found.agreement) == (0.5, 1.0, 1.0)
    assert (found.setting, found.value) == ("select.floors.max_frozen", 0.5)
    with pytest.raises(PreparationError, match="there is no filter 'foo'"):
        write_label_page(out, "foo", 4)


def test_a_share_is_proposed_as_a_share(films, prepared, tmp_path, engines):
    out, _ = prepared
    config = small_config("shard.max_clips=2", "select.shares.min_clips=2", "select.level=finetune")
    prepare([str(films)], out, config, change_settings=True)
    rows = [row for row in read_parquet(out / "manifest.parquet") if row["reason"] not in ("frozen", "copy")]
    ranked = sorted(rows, key=lambda row: row["motion"])
    answers = {row["id"]: "drop" if place < 2 else "keep" for place, row in enumerate(ranked)}
    (tmp_path / "labels.json").write_text(json.dumps(answers))
    found = propose(out, "static", tmp_path / "labels.json")
    assert found.setting == "select.shares.least_motion"
    # Two of five clips, of which finetune drops twice the setting.
    assert found.value == pytest.approx(0.2)


def test_the_proposed_threshold_agrees_with_most_answers():
    pairs = [(number / 10, number < 4) for number in range(10)]
    step = Step(
        name="dark",
        setting="select.floors.min_luma",
        score="luma",
        keeps="above",
        threshold=0.65,
        dropped=0,
        remaining=0,
        remaining_s=0.0,
    )
    found = fit(pairs, step)
    assert (found.setting, found.value) == ("select.floors.min_luma", found.proposed)
    assert found.proposed == pytest.approx(0.35)
    assert (found.agreement, found.proposed_precision) == (1.0, 1.0)
    assert found.precision == pytest.approx(4 / 7)
