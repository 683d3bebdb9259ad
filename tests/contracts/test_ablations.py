"""The table of ablations: shares with Wilson's interval, changes on the same prompts."""

import json
from dataclasses import asdict
from types import SimpleNamespace

import pytest
import torch
from runs.ablations import difference, folder_name, main, planned, table, wilson_interval

from videocrafter.evaluation.exam.exam import exam_protocol
from videocrafter.evaluation.model_identity import describe_model
from videocrafter.models.judge import VideoJudge


def marks(*rights):
    return {f"prompt {number}": (True, right, True) for number, right in enumerate(rights)}


def test_intervals_are_wilsons():
    # Newcombe (1998), table 1: 81 of 263, 15 of 148, and 0 of 20.
    for right, count, expected in ((81, 263, (0.2553, 0.3662)), (15, 148, (0.0624, 0.1605)), (0, 20, (0, 0.1611))):
        assert wilson_interval(right, count) == pytest.approx(expected, abs=5e-5)


def test_rows_have_intervals_and_paired_differences():
    text = table({"25 steps": marks(*[True] * 8), "4 steps": marks(*[True] * 2, *[False] * 6)})
    lines = text.splitlines()
    assert lines[0].startswith("| 8 prompts | subject")
    assert lines[2] == "| 25 steps | " + "100 (68 to 100) | " * 4 + " |"
    assert lines[3].startswith(
        "| 4 steps | 100 (68 to 100) | 25 (7 to 59) | 100 (68 to 100) | 25 (7 to 59) | 0 gained"
    )
    assert lines[3].endswith("| 0 gained, 6 lost: lower |")  # by chance in 2 of 64 cases
    with pytest.raises(ValueError, match="b was examined on other prompts"):
        table({"a": marks(True), "b": marks(True, True)})


def test_differences_are_judged_by_mcnemars_exact_test():
    first = marks(*[True] * 6, *[False] * 4)
    for gained, lost, verdict in ((0, 0, "not distinguishable"), (0, 5, "not distinguishable"), (0, 6, "lower")):
        other = marks(*[False] * lost, *[True] * (6 - lost), *[True] * gained, *[False] * (4 - gained))
        assert difference(first, other) == f"{gained} gained, {lost} lost: {verdict}"
    assert difference(marks(*[False] * 7), marks(*[True] * 7)) == "7 gained, 0 lost: higher"


@pytest.fixture
def exams(monkeypatch):
    """Replace models by single layers whose weights depend on the name, exams by their reports; list the exams."""
    seen = []
    judge = VideoJudge(subjects=["cat"], motions=["still"], scenes=["the sea"], widths=(8, 8, 8, 8))

    def run_exam(folder, pipeline, *, config, judge, on_progress):
        seen.append((config.num_prompts, config.num_inference_steps, config.guidance_scale))
        models = {"t2v": describe_model(pipeline), "judge": describe_model(judge)}
        report = {"protocol": exam_protocol(config, models), "settings": asdict(config), "models": models}
        folder.mkdir(parents=True)
        (folder / "report.json").write_text(json.dumps(report))
        line = {"part": "text", "prompt": "p", "asked": ["a", "b", "c"], "seen": ["a", "b", "d"]}
        (folder / "answers.jsonl").write_text(json.dumps(line) + "\n")

    def load_pipeline(model):
        network = torch.nn.Linear(1, 1)
        torch.nn.init.constant_(network.weight, len(model))
        torch.nn.init.constant_(network.bias, 0.0)
        return SimpleNamespace(components={"unet": network}, set_progress_bar_config=lambda disable: None)

    monkeypatch.setattr("runs.ablations.load_judge", lambda folder: judge)
    monkeypatch.setattr("runs.ablations.load_pipeline", load_pipeline)
    monkeypatch.setattr("runs.ablations.run_exam", run_exam)
    return seen


def test_finished_exams_are_not_repeated(exams, tmp_path, capsys):
    arguments = [str(tmp_path), "--steps", "8", "4", "--prompts", "1", "--model", "old=folder"]
    main(arguments)
    assert exams == [(1, 8, None), (1, 8, 1.0), (1, 4, None), (1, 8, None)]
    main(arguments)
    assert len(exams) == 4
    assert (tmp_path / "table.md").read_text() in capsys.readouterr().out
    assert [row.name for row in planned("m", [3, 2], [1, 2.5], [])] == [
        "3 steps",
        "3 steps, no guidance",
        "3 steps, guidance 2.5",
        "2 steps",
    ]


def test_some_subjects_alone_are_asked_for(exams, tmp_path):
    main([str(tmp_path), "--steps", "2", "--guidance", "--subjects", "cat", "frog", "--prompts", "1"])
    assert exams == [(1, 2, None)]
    report = json.loads(next(tmp_path.glob("*/report.json")).read_text())
    assert report["settings"]["world"]["subjects"] == ["cat", "frog"]


def test_reports_of_other_models_and_settings_are_not_mixed_in(exams, tmp_path):
    main([str(tmp_path), "--steps", "8", "--prompts", "1", "--model", "old=folder"])
    for change, reason in (
        (["--steps", "8", "--prompts", "2"], "with other prompts, or another judge or version; use another output"),
        (["--steps", "8", "--prompts", "1", "--of", "another"], "with other weights; use another output"),
        (["--steps", "4", "--prompts", "1", "--model", "old=folder"], "with other steps; use another output"),
    ):
        with pytest.raises(SystemExit, match=reason):
            main([str(tmp_path), *change])
    with pytest.raises(SystemExit):
        main([str(tmp_path), "--steps", "4", "4"])


def test_distinct_names_have_distinct_folders():
    names = ("a b", "a-b", "A b", "..", "", "a/b")
    folders = [folder_name(name) for name in names]
    assert len({folder.lower() for folder in folders}) == len(names)
    assert all(set(folder) <= set("aAb-0123456789cdef") for folder in folders)
