"""The benchmarks that try to break things would notice if they did."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from benchmarks import damage, kills, training_baseline

from tests.contracts.test_benchmarks import table
from tests.unit.data.odd_sources import Expected
from videocrafter.training.parallel import precision

STEP = Path("checkpoints") / "high-step-00000004"


def finished_run(folder: Path) -> kills.Training:
    """A folder as a finished run leaves it, as far as it is compared."""
    state = {"moments": {"a": torch.tensor([1.0, -0.0])}, "step": 4, "seconds": 1.0}
    files = {
        "config.json": "{}",
        "choices.json": "{}",
        "final/unet/weights": "weights",
        "stages/high/weights": "weights",
        "samples/high-step-00000004/samples.png": "picture",
        "checkpoints/high-best.json": '{"step": 4}',
        f"{STEP}/unet/weights": "weights",
        f"{STEP}/training_state/manifest.json": str(folder),
        "log.jsonl": json.dumps({"step": 4, "kind": "train", "loss": 0.5, "seconds": hash(folder.name) % 100}) + "\n",
    }
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    torch.save(state, folder / STEP / "training_state" / "state.pt")
    return kills.Training(folder, 4)


def with_another_moment(folder: Path) -> None:
    path = folder / STEP / "training_state" / "state.pt"
    state = torch.load(path, weights_only=True)
    state["moments"]["a"][1] = 0.0  # the same number, another bit
    torch.save(state, path)


SPOILED: dict[str, Callable[[Path], object]] = {
    "final/unet/weights differs": lambda run: (run / "final/unet/weights").write_text("weightz"),
    "stages/high/weights differs": lambda run: (run / "stages/high/weights").unlink(),
    "samples/more.png differs": lambda run: (run / "samples/more.png").write_text("picture"),
    "config.json differs": lambda run: (run / "config.json").write_text("{ }"),
    "checkpoints/high-best.json differs": lambda run: (run / "checkpoints/high-best.json").write_text("{}"),
    "checkpoints/high-step-00000002 is there only once": lambda run: (
        run / STEP.with_name("high-step-00000002")
    ).mkdir(),
    "unet/weights differs": lambda run: (run / STEP / "unet/weights").write_text("weightz"),
    "high-step-00000004, state.moments.a differs": with_another_moment,
    "killed/log.jsonl.part was left behind": lambda run: (run / "log.jsonl.part").write_text(""),
    "log.jsonl differs": lambda run: (run / "log.jsonl").write_text('{"step": 4, "kind": "train", "loss": 0.25}\n'),
}


def test_runs_that_differ_in_their_times_alone_are_equal(tmp_path: Path):
    whole, killed = finished_run(tmp_path / "whole"), finished_run(tmp_path / "killed")
    path = tmp_path / "killed" / STEP / "training_state" / "state.pt"
    torch.save(torch.load(path, weights_only=True) | {"seconds": 2.0}, path)
    assert kills.differences(whole, killed) == []


@pytest.mark.parametrize("expected", SPOILED)
def test_every_difference_between_two_runs_is_seen(tmp_path: Path, expected: str):
    whole, killed = finished_run(tmp_path / "whole"), finished_run(tmp_path / "killed")
    SPOILED[expected](tmp_path / "killed")
    found = kills.differences(whole, killed)
    assert len(found) == 1
    assert expected in found[0]


def test_kills_come_while_there_is_something_to_kill():
    # A process lives uniformly long, up to the start-up and the longest work; together they do most of the training.
    start_up, work, number = 5.0, 60.0, 50
    longest = kills.longest_work(number, start_up, work)
    trained_per_life = longest**2 / (2 * (start_up + longest))
    assert number * trained_per_life == pytest.approx(0.8 * work)


def sample(key: str, fate: str = "whole", **changes: object) -> Expected:
    return Expected(**({"source": "folder", "key": key, "what": "clip", "fate": fate} | changes))


def judged(folder: Path, expected: list[Expected], arrived: list[str], named: list[str], whole: bool = True):
    folder.mkdir(exist_ok=True)
    lines = [json.dumps({"keys": arrived, "whole": whole})]
    (folder / "arrived.jsonl").write_text("\n".join(lines))
    left_out = [{"source": "folder", "key": key, "reason": "unreadable", "message": "is damaged"} for key in named]
    (folder / "named.jsonl").write_text("\n".join(map(json.dumps, left_out)))
    return damage.judge(expected, folder, [])


def test_what_is_delivered_or_named_as_it_should_be_is_good(tmp_path: Path):
    expected = [sample("a"), sample("b", "bad"), sample("c", "either"), sample("d", "either")]
    assert judged(tmp_path, expected, ["folder/a", "folder/c"], ["b", "d"]).is_good


@pytest.mark.parametrize(
    ("arrived", "named", "trouble"),
    [
        (["folder/a"], [], "neither"),
        ([], ["a", "b"], "wrong"),
        (["folder/a", "folder/b"], [], "wrong"),
    ],
    ids=["a file is lost", "a good one is left out", "a bad one is delivered"],
)
def test_what_becomes_of_a_file_is_noticed(tmp_path: Path, arrived: list[str], named: list[str], trouble: str):
    outcome = judged(tmp_path, [sample("a"), sample("b", "bad")], arrived, named)
    assert not outcome.is_good
    assert len(getattr(outcome, trouble)) == 1


def test_batches_without_pixels_crashes_and_hangs_are_noticed(tmp_path: Path):
    assert judged(tmp_path, [sample("a")], ["folder/a"], [], whole=False).wrong == ["folder/a: no pixels"]
    for trouble in ("CRASHED with status 1", "HANGS: nothing came"):
        assert not damage.judge([], tmp_path, [trouble]).is_good


def test_bf16_is_not_measured_where_it_is_only_emulated(monkeypatch: pytest.MonkeyPatch):
    for emulated in (False, True):
        monkeypatch.setattr(precision, "emulates_bf16", lambda emulated=emulated: emulated)
        assert ("+ bf16" in training_baseline.ladder()) != emulated


@pytest.mark.slow
def test_training_is_measured_against_a_plain_loop(capsys: pytest.CaptureFixture[str]):
    short = ["--smoke", "--no-processes", "--repeats", "1", "--steps", "1", "--warm-up", "1", "--threads", "1"]
    training_baseline.main(short)
    shown = capsys.readouterr().out
    rows = table(shown)
    assert [what for what, _ in rows] == [training_baseline.PLAIN, *training_baseline.ladder()]
    assert all(float(row[5]) > 0 for row in list(rows.values())[1:])
    assert "times the plain loop; the target is 2" in shown
