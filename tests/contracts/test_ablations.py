"""The table of ablations: shares with Wilson's interval, changes on the same prompts."""

import json

import pytest
from runs.ablations import difference, main, planned, table, wilson_interval


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


def test_finished_exams_are_not_repeated(tmp_path, monkeypatch, capsys):
    seen = []

    def examine(row, folder, prompts):
        seen.append((row.name, row.model, dict(row.settings), prompts))
        folder.mkdir(parents=True)
        (folder / "report.json").write_text("{}")
        line = {"part": "text", "prompt": "p", "asked": ["a", "b", "c"], "seen": ["a", "b", "d"]}
        (folder / "answers.jsonl").write_text(json.dumps(line) + "\n")

    monkeypatch.setattr("runs.ablations.examine", examine)
    arguments = [str(tmp_path), "--steps", "8", "4", "--prompts", "1", "--model", "old=folder"]
    main(arguments)
    assert seen == [
        ("8 steps", "tiny-t2v", {"num_inference_steps": 8}, 1),
        ("8 steps, no guidance", "tiny-t2v", {"num_inference_steps": 8, "guidance_scale": 1.0}, 1),
        ("4 steps", "tiny-t2v", {"num_inference_steps": 4}, 1),
        ("old", "folder", {"num_inference_steps": 8}, 1),
    ]
    main(arguments)
    assert len(seen) == 4
    assert (tmp_path / "table.md").read_text() in capsys.readouterr().out
    assert [row.name for row in planned("m", [3], [])] == ["3 steps", "3 steps, no guidance"]
