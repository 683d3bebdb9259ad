"""The stress benchmarks detect differences, losses, crashes and hangs."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from benchmarks import damage, kills

from tests.unit.data.odd_sources import Expected

STEP = Path("checkpoints") / "high-step-00000004"


def finished_run(folder: Path) -> kills.Training:
    """A run folder with the parts of a finished run that are compared."""
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
    state["moments"]["a"][1] = 0.0  # equal, but with another sign bit
    torch.save(state, path)


SPOILED: dict[str, Callable[[Path], object]] = {
    "final/unet/weights differs": lambda run: (run / "final/unet/weights").write_text("weightz"),
    "stages/high/weights differs": lambda run: (run / "stages/high/weights").unlink(),
    "samples/more.png differs": lambda run: (run / "samples/more.png").write_text("picture"),
    "config.json differs": lambda run: (run / "config.json").write_text("{ }"),
    "checkpoints/high-best.json differs": lambda run: (run / "checkpoints/high-best.json").write_text("{}"),
    "checkpoints/high-step-00000002 exists in one run only": lambda run: (
        run / STEP.with_name("high-step-00000002")
    ).mkdir(),
    "unet/weights differs": lambda run: (run / STEP / "unet/weights").write_text("weightz"),
    "high-step-00000004, state.moments.a differs": with_another_moment,
    "killed/log.jsonl.part was left behind": lambda run: (run / "log.jsonl.part").write_text(""),
    "log.jsonl differs": lambda run: (run / "log.jsonl").write_text('{"step": 4, "kind": "train", "loss": 0.25}\n'),
}


def test_runs_that_differ_only_in_their_times_are_equal(tmp_path: Path):
    whole, killed = finished_run(tmp_path / "whole"), finished_run(tmp_path / "killed")
    path = tmp_path / "killed" / STEP / "training_state" / "state.pt"
    torch.save(torch.load(path, weights_only=True) | {"seconds": 2.0}, path)
    assert kills.differences(whole, killed) == []


@pytest.mark.parametrize("expected", SPOILED)
def test_every_difference_between_two_runs_is_found(tmp_path: Path, expected: str):
    whole, killed = finished_run(tmp_path / "whole"), finished_run(tmp_path / "killed")
    SPOILED[expected](tmp_path / "killed")
    found = kills.differences(whole, killed)
    assert len(found) == 1
    assert expected in found[0]


def test_kills_leave_a_share_of_the_work_undisturbed():
    # Lifetimes are uniform up to the start-up plus the longest work; together they do 80 % of the training.
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


def test_expected_outcomes_are_good(tmp_path: Path):
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
def test_unexpected_outcomes_are_found(tmp_path: Path, arrived: list[str], named: list[str], trouble: str):
    outcome = judged(tmp_path, [sample("a"), sample("b", "bad")], arrived, named)
    assert not outcome.is_good
    assert len(getattr(outcome, trouble)) == 1


def test_batches_without_pixels_crashes_and_hangs_are_found(tmp_path: Path):
    assert judged(tmp_path, [sample("a")], ["folder/a"], [], whole=False).wrong == ["folder/a: no pixels"]
    for trouble in ("CRASHED with status 1", "HANGS: no sample"):
        assert not damage.judge([], tmp_path, [trouble]).is_good
