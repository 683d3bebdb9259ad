import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from videocrafter.training.tracking.log import TrainingLog, number, parse_line, read_log, sample_files, truncate_log

STAGES = ("low", "high")

scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
anything = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3)
)
whole_lines = st.fixed_dictionaries(
    {"stage": st.sampled_from(STAGES), "step": st.integers(0, 99), "kind": st.sampled_from(["train", "validation"])},
    optional={"loss": st.floats(), "samples": anything, "precision": st.text()},
)
damage = (
    st.binary(max_size=30).filter(lambda text: b"\n" not in text)
    | anything.map(lambda value: json.dumps(value).encode())
    | whole_lines.map(lambda line: json.dumps(line).encode()[:-3])
    | st.sampled_from([b"\0" * 40, b"[" * 50_000, b'{"stage": 1, "step": 2, "kind": "train"}', b"\xff\xfe"])
)


class Recorder:
    def __init__(self) -> None:
        self.lines: list[tuple[str, int, str, dict[str, Any]]] = []
        self.folders: list[Path] = []

    def line(self, stage: str, step: int, kind: str, values: Mapping[str, Any]) -> None:
        self.lines.append((stage, step, kind, dict(values)))

    def samples(self, stage: str, step: int, folder: Path) -> None:
        self.folders.append(folder)


class Broken(Recorder):
    def line(self, stage: str, step: int, kind: str, values: Mapping[str, Any]) -> None:
        raise ConnectionError("no route to host")


def is_line(text: bytes) -> bool:
    """Check a line against the format, independently of the reader."""
    try:
        line = json.loads(text)
        return (
            isinstance(line["stage"], str)
            and isinstance(line["kind"], str)
            and type(line["step"]) is int
            and line["step"] >= 0
        )
    except (ValueError, TypeError, KeyError, RecursionError):
        return False


@given(st.lists(whole_lines.map(lambda line: json.dumps(line).encode()) | damage, max_size=12), st.booleans())
def test_a_damaged_log_gives_its_whole_lines_in_order(
    tmp_path_factory: pytest.TempPathFactory, texts: list[bytes], ends: bool
) -> None:
    folder = tmp_path_factory.mktemp("run")
    (folder / "log.jsonl").write_bytes(b"\n".join(texts) + (b"\n" if ends else b""))
    expected = [json.loads(text) for text in texts if is_line(text)]
    assert [repr(line) for line in read_log(folder)] == [repr(line) for line in expected]  # NaN equals no NaN


@given(st.lists(whole_lines, max_size=12), damage, st.integers(-1, 99))
def test_a_log_is_cut_back_to_a_checkpoint_whatever_its_end_looks_like(
    tmp_path_factory: pytest.TempPathFactory, lines: list[dict[str, Any]], tail: bytes, step: int
) -> None:
    folder = tmp_path_factory.mktemp("run")
    lines = sorted(lines, key=lambda line: (STAGES.index(line["stage"]), line["step"]))
    whole = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
    (folder / "log.jsonl").write_bytes(whole + tail)
    truncate_log(folder, STAGES, "high", step)
    kept = [line for line in lines if line["stage"] == "low" or line["step"] <= step]
    assert (folder / "log.jsonl").read_bytes() == b"".join(json.dumps(line).encode() + b"\n" for line in kept)


def test_a_run_without_a_log_has_no_lines(tmp_path: Path) -> None:
    assert read_log(tmp_path) == []
    truncate_log(tmp_path, STAGES, "low", 3)
    assert list(tmp_path.iterdir()) == []


def test_a_line_is_written_before_followers_hear_of_it(tmp_path: Path) -> None:
    class Reader(Recorder):
        def line(self, stage: str, step: int, kind: str, values: Mapping[str, Any]) -> None:
            assert read_log(tmp_path)[-1] == {"stage": stage, "step": step, "kind": kind, **values}
            super().line(stage, step, kind, values)

    reader = Reader()
    log = TrainingLog(tmp_path, "low", [reader])
    log.write(3, "train", {"loss": 0.5})
    log.samples(4, tmp_path)
    log.close()
    assert reader.lines == [("low", 3, "train", {"loss": 0.5})]
    assert reader.folders == [tmp_path]


def test_a_follower_that_fails_is_named_once_and_the_others_go_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first, last = Recorder(), Recorder()
    log = TrainingLog(tmp_path, "low", [first, Broken(), last])
    for step in range(3):
        log.write(step, "train", {"loss": 1.0})
    log.close()
    assert len(read_log(tmp_path)) == len(first.lines) == len(last.lines) == 3
    (warning,) = caplog.messages
    assert "Broken" in warning
    assert "ConnectionError: no route to host" in warning
    assert "Training continues" in warning


def test_numbers_of_a_line() -> None:
    line = {"loss": 0.5, "step": 3, "ok": True, "name": "x", "huge": 10**400}
    assert [number(line, key) for key in line] == [0.5, 3.0, None, None, None]
    assert number(line, "missing") is None
    assert parse_line(b'{"stage": "a", "step": true, "kind": "train"}') is None


def test_pictures_and_videos_of_a_folder(tmp_path: Path) -> None:
    for name in ("b.png", "a.JPG", "clip.mp4", "loop.gif", "notes.txt", "verdicts.json"):
        (tmp_path / name).touch()
    (tmp_path / "folder.png").mkdir()
    pictures, videos = sample_files(tmp_path)
    assert [path.name for path in pictures] == ["a.JPG", "b.png"]
    assert [path.name for path in videos] == ["clip.mp4", "loop.gif"]
