"""Bad samples are counted and reported. Too many of them stop a run; a few do not."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from videocrafter.data.bad_samples import BadSampleRules, BadSamples
from videocrafter.data.errors import TooManyBadSamplesError


def feed(rules: BadSampleRules, bad_share: float, count: int, seed: int = 0, reason: str = "unreadable") -> int:
    """Return the number of samples before there were too many bad ones; `count` if there never were."""
    samples, rng = BadSamples(rules), random.Random(seed)
    for index in range(count):
        try:
            if rng.random() < bad_share:
                samples.bad("source", f"clip {index}", reason, "damaged")
            else:
                samples.good()
        except TooManyBadSamplesError:  # noqa: PERF203  ends the loop
            return index
    return count


def fail(samples: BadSamples, count: int) -> None:
    for index in range(count):
        samples.bad("webvid:a.csv", f"clip {index}", "truncated", f"{index}.mp4 ends early")


def test_a_run_continues_below_its_limit_and_stops_above_it() -> None:
    rules = BadSampleRules(max_bad_share=0.05)
    assert [feed(rules, 0.04, 3000, seed) for seed in range(5)] == [3000] * 5
    assert all(feed(rules, 0.15, 3000, seed) < 1000 for seed in range(5))


def test_a_run_stops_at_once_if_everything_is_bad() -> None:
    assert feed(BadSampleRules(), 1.0, 100) < 5


def test_a_share_of_zero_allows_none() -> None:
    assert feed(BadSampleRules(max_bad_share=0.0), 0.01, 5000) < 1000
    assert feed(BadSampleRules(max_bad_share=0.0), 0.0, 100) == 100


def test_an_endless_search_ends_even_without_limits() -> None:
    rules = BadSampleRules(max_bad_share=1.0, max_left_out_share=1.0, window=50)
    assert feed(rules, 1.0, 500) == 49
    assert feed(rules, 0.5, 500) == 500


def test_a_fault_that_begins_late_is_noticed() -> None:
    samples = BadSamples(BadSampleRules(window=200))
    for _ in range(100_000):
        samples.good()
    with pytest.raises(TooManyBadSamplesError):
        fail(samples, 60)


def test_unsuitable_clips_have_a_separate_limit() -> None:
    assert feed(BadSampleRules(max_bad_share=0.01), 0.3, 3000, reason="too_short") == 3000
    assert feed(BadSampleRules(max_left_out_share=0.2), 0.5, 3000, reason="too_short") < 300


def test_the_error_is_one_line_with_reasons_report_and_advice(tmp_path: Path) -> None:
    report = tmp_path / "new" / "bad.jsonl"
    samples = BadSamples(BadSampleRules(report=str(report)))
    with pytest.raises(TooManyBadSamplesError) as caught:
        fail(samples, 10)
    text = str(caught.value)
    assert "\n" not in text
    assert "100.0% of the last 4 samples" in text
    assert "truncated: 4" in text
    assert "3.mp4 ends early" in text
    assert str(report) in text
    assert "fix your data or raise max_bad_share" in text
    lines = [json.loads(line) for line in report.read_text(encoding="utf-8").splitlines()]
    assert lines[0] == {
        "source": "webvid:a.csv",
        "key": "clip 0",
        "reason": "truncated",
        "message": "0.mp4 ends early",
    }
    assert [line["key"] for line in lines] == [f"clip {index}" for index in range(4)]


def test_a_sample_is_named_once_and_counted_every_time(tmp_path: Path) -> None:
    report = tmp_path / "bad.jsonl"
    samples = BadSamples(BadSampleRules(report=str(report), max_bad_share=1.0))
    for _ in range(3):
        samples.bad("source", "odd \udcff name", "missing", "gone")
    assert samples.counts == {"missing": 3}
    assert len(report.read_text(encoding="utf-8").splitlines()) == 1


def test_across_resumes_a_sample_is_reported_once_per_reason(tmp_path: Path) -> None:
    rules = BadSampleRules(report=str(tmp_path / "bad.jsonl"), max_bad_share=1.0)
    keys = ["a.mp4", "odd \udcff name", "line\u2028end", "umlaut ü"]
    for _ in range(3):
        samples = BadSamples(rules)
        for key in keys:
            for reason in ("missing", "truncated"):
                samples.bad("source", key, reason, "gone")
                samples.good()
    report = (tmp_path / "bad.jsonl").read_text(encoding="utf-8")
    lines = [json.loads(line) for line in report.split("\n")[:-1]]
    assert [(line["key"], line["reason"]) for line in lines] == [
        (key, reason) for key in keys for reason in ("missing", "truncated")
    ]


def test_the_report_continues_after_a_truncated_line(tmp_path: Path) -> None:
    report = tmp_path / "bad.jsonl"
    whole = '{"source": "s", "key": "1", "reason": "missing", "message": ""}\n'
    report.write_text(whole + '[]\n{"source": "s", "key": "2", "rea')
    samples = BadSamples(BadSampleRules(report=str(report), max_bad_share=1.0))
    for key in ("1", "2"):
        samples.bad("s", key, "missing", "gone")
    lines = report.read_text().splitlines()
    assert lines[0] + "\n" == whole
    assert len(lines) == 4
    assert json.loads(lines[-1])["key"] == "2"


def test_a_report_that_cannot_be_written_does_not_end_a_run(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("")
    samples = BadSamples(BadSampleRules(report=str(tmp_path / "file" / "bad.jsonl")))
    samples.bad("source", "clip 7", "missing", "gone")
    assert "clip 7" in caplog.text


def test_counting_continues_after_a_resume() -> None:
    whole, first, second = (BadSamples(BadSampleRules(window=50)) for _ in range(3))
    rng = random.Random(1)
    events = [rng.random() < 0.03 for _ in range(200)]
    for index, is_bad in enumerate(events):
        if index == 90:
            second.load(json.loads(json.dumps(first.state())))
        for samples in (whole, first if index < 90 else second):
            if is_bad:
                samples.bad("source", str(index), "missing", "gone")
            else:
                samples.good()
    assert second.state() == whole.state()


@pytest.mark.parametrize("wrong", [{"max_bad_share": 1.1}, {"max_left_out_share": -0.1}, {"window": 0}])
def test_wrong_rules_are_refused_when_they_are_made(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(wrong))} is"):
        BadSampleRules(**wrong)  # type: ignore[arg-type]
