"""From simulated raters to the report: known preferences come back, and careless raters are named."""

import csv
import json
import random
from xml.etree import ElementTree as ET

import numpy as np
import pytest

from tests.tiny_studies import PROMPTS, SYSTEMS, answer_all, expected_choice, make_tiny_study, write_systems
from videocrafter.evaluation.comparison.matching import match_videos
from videocrafter.evaluation.study.assignment import Task
from videocrafter.evaluation.study.design import read_design
from videocrafter.evaluation.study.measurements import Measurements, Video, join_evaluations
from videocrafter.evaluation.study.new_study import StudySettings, make_study
from videocrafter.evaluation.study.report import write_study_report
from videocrafter.evaluation.video_set import read_video_set
from videocrafter.media.video_file import read_frames, read_metadata, write_video


def attentive(winner, share=1.0, seed=0):
    rng = random.Random(seed)

    def decide(design, task: Task, aspect):
        if task.role == "vote" and rng.random() > share:
            return expected_choice(design, task.item, task.swapped, 1 - winner)
        return expected_choice(design, task.item, task.swapped, winner)

    return decide


@pytest.fixture
def study(tmp_path):
    make_tiny_study(tmp_path, prompts=6, votes_per_item=100, checks_per_rater=3)
    return tmp_path / "study"


def test_preferences_come_back_and_careless_raters_are_named(study, tmp_path):
    answer_all(study, attentive(1, share=0.9), raters=8)
    answer_all(study, lambda *_: "left")  # rater 9
    answer_all(study, attentive(1), seconds=0.4)  # rater 10
    answer_all(study, attentive(1), questions=3)  # rater 11
    coin = random.Random(3)
    answer_all(study, lambda *_: coin.choice(["left", "right"]), raters=3)  # some of 12 to 14 fail
    report = write_study_report(study, tmp_path / "report", draws=100)
    reasons = {one["rater"]: one["reason"] for one in report["excluded"]}
    assert reasons[9] == "chose 'left' in 18 of 18 answers"
    assert reasons[10] == "took 0.4 s per question (median), less than 1.5 s"
    assert reasons[11] == "answered 2 questions, fewer than 5"
    assert not set(range(1, 9)) & set(reasons)
    assert report["raters"] == {"joined": 14, "finished": 13, "withdrawn": 0, "excluded": len(reasons)} | {
        "counted": 14 - len(reasons)
    }
    quality = report["aspects"]["visual_quality"]
    old, new = quality["systems"]["oldmodel"], quality["systems"]["newmodel"]
    assert new["score"] > 0.7 > 0.3 > old["score"]
    assert new["strength"] > 0 > old["strength"]
    assert new["score_interval"][0] <= new["score"] <= new["score_interval"][1]
    assert quality["pairs"][0]["distinguishable"]
    assert len(report["completion_codes"]) == 13
    stored = json.loads((tmp_path / "report" / "report.json").read_text())
    assert stored["aspects"]["visual_quality"]["systems"]["newmodel"]["score"] == new["score"]
    assert "newmodel is better" in (tmp_path / "report" / "report.md").read_text()


def test_votes_do_not_depend_on_sides_and_all_are_in_the_table(study, tmp_path):
    answer_all(study, attentive(1), raters=2)
    report = write_study_report(study, tmp_path / "report", draws=10)
    pair = report["aspects"]["motion_quality"]["pairs"][0]
    assert (pair["first_wins"], pair["ties"], pair["second_wins"]) == (0, 0, 12)
    assert report["checks"] == {"answered": 6, "failed": 0}
    with (tmp_path / "report" / "votes.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * 2 * (1 + 6 + 3)
    votes = [row for row in rows if row["kind"] == "vote"]
    assert {row["vote"] for row in votes} == {"second"}
    assert {row["on_left"] for row in votes} == {"oldmodel", "newmodel"}
    assert {row["prompt"] for row in votes} >= set(PROMPTS)
    assert {row["kind"] for row in rows if row["role"] == "check"} >= {"repeat"}
    root = ET.parse(tmp_path / "report" / "preferences.svg").getroot()
    assert sum(child.tag.endswith("rect") for child in root.iter()) == 1 + 2 * 2 + 2


def test_equal_systems_are_not_distinguishable(study, tmp_path):
    answer_all(study, attentive(0, share=0.5, seed=4), raters=6)
    pair = write_study_report(study, tmp_path / "report", draws=100)["aspects"]["visual_quality"]["pairs"][0]
    assert not pair["distinguishable"]
    assert "not distinguishable" in (tmp_path / "report" / "report.md").read_text()


def test_ratings_give_means_agreement_and_a_calibration(tmp_path):
    make_tiny_study(tmp_path, prompts=6, kind="ratings", votes_per_item=100)

    def rate(design, task, aspect):
        item = design.items[task.item]
        return 1 if item.kind == "broken" else 2 + 2 * design.clips[item.clips[0]].system + (item.prompt % 2)

    answer_all(tmp_path / "study", rate, raters=3)
    design = read_design(tmp_path / "study")
    values = {
        Video(system=name, prompt=prompt.text, seed=prompt.seed): (10.0 * system + index % 2, 1.0)
        for system, name in enumerate(design.systems)
        for index, prompt in enumerate(design.prompts)
    }
    metrics = Measurements(names=("sharpness", "constant"), values=values)
    report = write_study_report(tmp_path / "study", tmp_path / "report", metrics, draws=50)
    quality = report["aspects"]["visual_quality"]
    assert quality["systems"]["oldmodel"]["mean"] == pytest.approx(2.5)
    assert quality["systems"]["newmodel"]["mean"] == pytest.approx(4.5)
    assert quality["systems"]["newmodel"]["ratings"] == [0, 0, 0, 9, 9]
    assert quality["alpha"] == pytest.approx(1.0)
    fit = report["calibration"]["visual_quality"]
    assert fit["spearman"] > 0.9
    assert fit["coefficients"]["sharpness"] > 0
    assert fit["num_videos"] == 12
    assert "| Visual quality | " in (tmp_path / "report" / "report.md").read_text()


def test_pairs_are_calibrated_within_prompts(tmp_path):
    make_tiny_study(tmp_path, prompts=12, votes_per_item=100)
    rng = random.Random(0)
    # The better video of a prompt has the higher metric, and prompts differ by far more than videos do.
    better = [rng.randrange(2) for _ in range(12)]
    answer_all(
        tmp_path / "study", lambda d, t, _: expected_choice(d, t.item, t.swapped, better[d.items[t.item].prompt])
    )
    design, values = read_design(tmp_path / "study"), {}
    for index, prompt in enumerate(design.prompts):
        level = rng.gauss(0.0, 10.0)
        for system, name in enumerate(design.systems):
            row = (level + (system == better[index]), 0.1 * index)
            values[Video(system=name, prompt=prompt.text, seed=prompt.seed)] = row
    lone = Video(system="newmodel", prompt=design.prompts[0].text, seed=design.prompts[0].seed)
    del values[lone]
    metrics = Measurements(names=("quality", "constant"), values=values)
    fit = write_study_report(tmp_path / "study", tmp_path / "report", metrics, draws=10)["calibration"]
    fit = fit["visual_quality"]
    assert fit["pearson"] > 0.99
    assert fit["coefficients"] == pytest.approx({"quality": 1.0, "constant": 0.0}, abs=1e-3)
    assert fit["intercept"] == pytest.approx(0.0, abs=1e-9)
    assert (fit["num_videos"], fit["num_prompts"], fit["without_metrics"]) == (22, 11, 1)
    few = Measurements(names=("quality",), values={lone: (1.0,)})
    with pytest.raises(ValueError, match="0 rated videos of 0 prompts are too few"):
        write_study_report(tmp_path / "study", tmp_path / "report", few, draws=10)
    assert "differences from the mean of their prompt" in (tmp_path / "report" / "report.md").read_text()


def test_systems_with_other_seeds_are_calibrated_by_the_names_of_their_videos(tmp_path):
    folders = write_systems(tmp_path, prompts=6)
    for path in folders["newmodel"].glob("*.mp4"):
        record = read_metadata(path)
        frames = np.stack(list(read_frames(path)))
        write_video(path, frames, 8, record | {"seed": record["seed"] + 100}, overwrite=True)
    sets = {name: read_video_set(folder) for name, folder in folders.items()}
    settings = StudySettings(aspects=("overall",), training_per_rater=0, checks_per_rater=0, votes_per_item=5)
    design = make_study(match_videos(sets), SYSTEMS, tmp_path / "study", settings).design
    assert all(prompt.seed is None for prompt in design.prompts)
    answer_all(tmp_path / "study", attentive(1))
    for number, (name, videos) in enumerate(sets.items()):
        lines = [
            {"name": one.name, "prompt": one.prompt, "seed": one.seed, "values": {"quality": number}}
            for one in videos.entries
        ]
        (tmp_path / f"{name}-evaluation").mkdir()
        (tmp_path / f"{name}-evaluation" / "measurements.jsonl").write_text("\n".join(map(json.dumps, lines)))
    metrics = join_evaluations({name: tmp_path / f"{name}-evaluation" for name in SYSTEMS})
    fit = write_study_report(tmp_path / "study", tmp_path / "report", metrics, draws=10)["calibration"]["overall"]
    assert (fit["num_videos"], fit["without_metrics"]) == (12, 0)
    assert fit["pearson"] > 0.99


def test_a_study_without_answers_and_a_second_report_are_refused(study, tmp_path):
    with pytest.raises(ValueError, match="has no answers yet"):
        write_study_report(study, tmp_path / "report")
    answer_all(study, lambda *_: "left")
    with pytest.raises(ValueError, match=r"no answers that count .excluded: 1 of 1 raters"):
        write_study_report(study, tmp_path / "report")
    answer_all(study, attentive(0))
    write_study_report(study, tmp_path / "report", draws=5)
    with pytest.raises(ValueError, match="already exists"):
        write_study_report(study, tmp_path / "report", draws=5)
    write_study_report(study, tmp_path / "report", draws=5, overwrite=True)
