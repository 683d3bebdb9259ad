"""The benchmark of damaged files detects crashes and duplicates."""

import json
from pathlib import Path

import pytest
from benchmarks import damage

from tests.unit.data.odd_sources import Expected


def judged(folder: Path, keys: list[str], **stats: object) -> damage.Outcome:
    """The outcome for one valid file after these keys arrived."""
    (folder / "arrived.jsonl").write_text(json.dumps({"keys": keys, "whole": True}) + "\n")
    (folder / "stats.json").write_text(json.dumps(stats))
    return damage.judge([Expected("clip", "folder", "a", "whole")], folder, [])


def test_a_worker_that_died_counts_as_a_crash_even_if_no_sample_was_lost(tmp_path: Path):
    assert judged(tmp_path, ["folder/a"], deaths=0).is_good
    outcome = judged(tmp_path, ["folder/a"], deaths=1)
    assert (outcome.crashes, outcome.is_good) == (1, False)


def test_a_file_delivered_twice_is_wrong(tmp_path: Path):
    outcome = judged(tmp_path, ["folder/a", "folder/a"])
    assert outcome.wrong == ["folder/a was delivered 2 times, not 1"]


@pytest.mark.parametrize(("code", "word"), [("pass", "CRASHED"), ("raise SystemExit(3)", "CRASHED with status 3")])
def test_a_loader_that_ends_without_a_result_is_a_crash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, word: str
):
    (tmp_path / "benchmarks").mkdir()
    (tmp_path / "benchmarks" / "damage.py").write_text(code)
    monkeypatch.setattr(damage, "ROOT", tmp_path)
    (trouble,) = damage.watch(tmp_path, damage.arguments([]))
    assert trouble.startswith(word)
