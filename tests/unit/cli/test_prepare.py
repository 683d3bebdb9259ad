"""`videocrafter prepare` and `label`: mistakes are one line, and the summary says where to go from there."""

from collections import Counter

import pytest

from tests.command_line import call
from videocrafter.preparation import run as running
from videocrafter.preparation.run import Summary


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["films"], "expected at least one source and the output folder"),
        (["films", "out", "--engine", "spark"], "expected local or ray"),
        (["films", "out", "--retry", "luck"], "unknown reason"),
        (["films", "out", "--set", "select.levl=finetune"], "did you mean select.level"),
        (["films", "s3://b/out"], "expected a folder of this machine"),
        (["nowhere", "out"], "is not a folder"),
    ],
)
def test_mistakes_are_one_line(arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = call(["prepare", *arguments])
    assert result.exit_code == 2
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_the_summary_names_problems_report_and_shards(tmp_path, monkeypatch):
    summary = Summary(videos=3, bad=1, clips=9, kept=7, in_shards=6, shards=["shards/000000.tar"], changed=("a.mp4",))
    summary.failures = Counter(unreadable=1)
    given = {}
    monkeypatch.setattr(running, "prepare", lambda *arguments, **options: given.update(options) or summary)
    result = call(["prepare", "films", tmp_path / "out", "--retry", "crashed", "--change-settings"])
    assert result.exit_code == 0
    assert "3 videos (1 with problems), 9 clips, 7 kept, 6 in 1 shards" in result.stdout
    assert "1 unreadable" in result.stdout
    assert f"--data {tmp_path / 'out' / 'shards'}" in result.stdout
    assert "a.mp4 changed since the plan" in result.stderr
    assert (given["retry"], given["change_settings"], given["engine"]) == (frozenset({"crashed"}), True, "local")


def test_labels_need_a_finished_data_set(tmp_path):
    result = call(["label", tmp_path, "--filter", "static"])
    assert result.exit_code == 2
    assert "contains no finished data set" in result.stderr
