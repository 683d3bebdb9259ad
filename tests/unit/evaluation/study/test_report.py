"""From simulated raters to the report: known preferences come back, and careless raters are named."""

import csv
import json
import random
from xml.etree import ElementTree as ET

import pytest

from tests.tiny_studies import PROMPTS, answer_all, expected_choice, make_tiny_study
from videocrafter.evaluation.study.assignment import Task
from videocrafter.evaluation.study.design import read_design
from videocrafter.evaluation.study.measurements import Measurements
from videocrafter.evaluation.study.report import write_study_report


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
        (name, prompt.text, prompt.seed): (10.0 * system + index % 2, 1.0)
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
