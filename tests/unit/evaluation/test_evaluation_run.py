from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from tests.unit.evaluation.conftest import WEIGHTLESS
from tests.unit.media.clips import moving_disc
from videocrafter.evaluation.evaluation_run import RESULTS, evaluate_videos
from videocrafter.evaluation.measuring import Measurer
from videocrafter.evaluation.metrics.networks import Networks
from videocrafter.evaluation.video_set import read_video_set
from videocrafter.media.video_file import write_video


def run(folder, output, protocol=WEIGHTLESS, **options):
    return evaluate_videos(read_video_set(folder), Measurer(protocol, Networks()), output, **options)


def test_scores_are_means_over_prompts_with_intervals(make_videos, tmp_path):
    outcome = run(make_videos(), tmp_path / "out")
    score = outcome.report["scores"]["brightness"]
    by_video = [line["values"]["brightness"] for line in outcome.videos]
    assert score["value"] == pytest.approx(np.mean(by_video))
    assert score["low"] <= score["value"] <= score["high"]
    assert (score["num_prompts"], score["num_videos"]) == (2, 4)
    assert outcome.report["protocol"]["sha256"] == WEIGHTLESS.sha256
    assert outcome.report["problems"] == outcome.report["warnings"] == []
    (missing,) = outcome.report["missing"]
    assert missing["metric"] == "clip_score"
    assert "--clip" in missing["needs"][0]["file"]
    assert outcome.report["not_measured"]["dis_amplitude"] == {
        "the prompt asks for no amplitude (attribute: large or slow)": 4
    }


def test_reports_with_other_numbers_of_videos_have_other_comparison_hashes(make_videos, tmp_path):
    four, two = (run(make_videos(str(count), count), tmp_path / f"out{count}").report for count in (4, 2))
    fewer = make_videos("3", 4)
    (fewer / "3.mp4").unlink()
    three = run(fewer, tmp_path / "out3").report
    assert three["comparison"]["prompts_sha256"] == four["comparison"]["prompts_sha256"]
    assert len({report["comparison"]["sha256"] for report in (two, three, four)}) == 3


def test_two_runs_give_identical_numbers(make_videos, tmp_path):
    folder = make_videos()
    one, other = run(folder, tmp_path / "a"), run(folder, tmp_path / "b")
    assert json.dumps(one.report) == json.dumps(other.report)
    assert list(one.videos) == list(other.videos)
    assert len(one.videos) == 4


def test_a_killed_evaluation_measures_only_the_rest(make_videos, tmp_path, monkeypatch):
    folder, measured = make_videos(), []
    measure = Measurer.measure

    def killed_after_three(self, entry, fingerprint=""):
        if len(measured) == 3:
            raise KeyboardInterrupt
        measured.append(entry.name)
        return measure(self, entry, fingerprint)

    monkeypatch.setattr(Measurer, "measure", killed_after_three)
    with pytest.raises(KeyboardInterrupt):
        run(folder, tmp_path / "out")
    monkeypatch.setattr(Measurer, "measure", lambda *a: measured.append(a[1].name) or measure(*a))
    steps = []
    resumed = run(folder, tmp_path / "out", on_progress=lambda *step: steps.append(step))
    assert measured == ["0.mp4", "1.mp4", "2.mp4", "3.mp4"]
    assert steps == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert resumed.report == run(folder, tmp_path / "fresh").report


def test_changed_videos_prompts_and_protocols_are_measured_again(make_videos, tmp_path, monkeypatch):
    folder, output, measured = make_videos(count=2), tmp_path / "out", []
    measure = Measurer.measure
    monkeypatch.setattr(Measurer, "measure", lambda *a: measured.append(a[1].name) or measure(*a))
    run(folder, output)
    (folder / "0.txt").write_text("another prompt")
    run(folder, output)
    write_video(folder / "1.mp4", moving_disc(3, 32, 48), 8, {"prompt": "prompt 0", "seed": 1}, overwrite=True)
    run(folder, output)
    next((output / RESULTS).glob("*.json")).write_text("{damaged")
    run(folder, output)
    assert len(measured) == 2 + 1 + 1 + 1
    run(folder, output, replace(WEIGHTLESS, max_frames=2))
    assert len(measured) == 7


def test_odd_one_frame_different_and_damaged_videos_have_defined_outcomes(make_videos, tmp_path):
    folder = make_videos(count=2)
    write_video(folder / "one.mp4", moving_disc(1, 32, 48), 8, {"prompt": "one frame", "seed": 0})
    write_video(folder / "odd.mp4", moving_disc(5, 33, 47), 24, {"prompt": "odd size", "seed": 0})
    whole = (folder / "0.mp4").read_bytes()
    (folder / "cut.mp4").write_bytes(whole[: len(whole) // 2])
    (folder / "empty.mp4").touch()
    write_video(folder / "silent.mp4", moving_disc(4, 32, 48), 8)
    report = run(folder, tmp_path / "out").report
    assert report["videos"]["count"] == 5
    problems = [(problem["kind"], problem["name"]) for problem in report["problems"]]
    assert sorted(problems) == [("no_prompt", "silent.mp4"), ("unreadable", "cut.mp4"), ("unreadable", "empty.mp4")]
    assert report["not_measured"]["dis_flow"] == {"the video has one frame": 1}
    assert [text.split(":")[0] for text in report["warnings"]] == [
        "the videos have 3 different numbers of frames",
        "the videos have 2 different sizes",
        "the videos have 2 different frame rates",
    ]


def test_no_usable_video_is_an_error(tmp_path):
    write_video(tmp_path / "videos" / "a.mp4", moving_disc(8, 64, 64), 8)
    shutil.move(tmp_path / "videos" / "a.mp4", tmp_path / "whole.mp4")
    (tmp_path / "videos" / "a.mp4").write_bytes(b"\0" * 100)
    with pytest.raises(ValueError, match="no usable videos"):
        run(tmp_path / "videos", tmp_path / "out")


def test_distances_to_a_reference_say_how_many_videos_they_need(make_videos, tmp_path, monkeypatch):
    """Features of a stand-in network: 2 numbers per frame, so that 3 videos are enough."""

    class Stand:
        outputs = ("efficientnet_lite0", "efficientnet_lite0_classes")

        def of_frames(self, frames):
            mean = np.array([[f[..., 0].mean(), f[..., 1].mean()] for f in frames], np.float32)
            share = (mean[:, 1:] / 255).clip(0, 1)
            return {"efficientnet_lite0": mean, "efficientnet_lite0_classes": np.hstack([share, 1 - share])}

    monkeypatch.setattr(Networks, "frame_network", lambda self, name, outputs: Stand())
    names = ("frechet", "kernel", "class_score")
    protocol = replace(WEIGHTLESS, metrics=tuple(f"efficientnet_lite0_{name}" for name in names))
    networks = Networks()
    networks.sha256["efficientnet_lite0"] = "0" * 64
    few, many = make_videos("few", 2), make_videos("many", 6)

    def distances(folder, output, reference=many):
        measurer = Measurer(protocol, networks, has_reference=True)
        return evaluate_videos(
            read_video_set(folder), measurer, tmp_path / output, reference=read_video_set(reference)
        ).report

    report = distances(few, "a")
    (reason,) = report["not_measured"]["efficientnet_lite0_frechet"]
    assert reason == "2 videos give a singular covariance of 2 features; at least 3 videos are needed"
    assert report["scores"]["efficientnet_lite0_kernel"]["num_videos"] == 2
    assert 1 <= report["scores"]["efficientnet_lite0_class_score"]["value"] <= 2
    stored = next((tmp_path / "a" / "reference" / RESULTS).glob("*.json"))
    assert json.loads(stored.read_text())["values"] == {}  # only features are taken from real videos
    same = distances(many, "b")
    assert same["comparison"]["reference_sha256"] == report["comparison"]["reference_sha256"]
    other = distances(many, "d", few)
    for key, differs in (("reference", True), ("prompts", False), ("protocol", False)):
        assert (other["comparison"][f"{key}_sha256"] != same["comparison"][f"{key}_sha256"]) == differs
    networks.sha256["efficientnet_lite0"] = "1" * 64
    retrained = distances(many, "e")
    assert {key for key in same["comparison"] if retrained["comparison"][key] != same["comparison"][key]} == {
        "sha256",
        "networks_sha256",
    }
    networks.sha256["efficientnet_lite0"] = "0" * 64
    assert same["extraction"]["feature_sizes"] == {"efficientnet_lite0": 2}
    assert report["comparison"]["prompts_sha256"] != same["comparison"]["prompts_sha256"]
    assert same["scores"]["efficientnet_lite0_frechet"]["value"] == pytest.approx(0, abs=1e-6)
    assert same["reference"]["count"] == 6
    without = evaluate_videos(read_video_set(many), Measurer(protocol, networks), tmp_path / "c").report
    assert [one["metric"] for one in without["missing"]] == [
        "efficientnet_lite0_frechet",
        "efficientnet_lite0_kernel",
    ]
    assert "--reference" in without["missing"][0]["needs"][0]["file"]
