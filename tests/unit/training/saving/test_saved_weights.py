"""The weights of a run are found by step, name, "latest" or "best"."""

import json
from pathlib import Path

import pytest

from videocrafter.training.saving.checkpoint import Checkpoints
from videocrafter.training.saving.run_folder import RunFolderError
from videocrafter.training.saving.saved_weights import choose_weights


def save(root: Path, stage: str, *steps: int, best: int | None = None) -> None:
    def write(folder: Path) -> None:
        (folder / "model_index.json").write_text("{}")
        (folder / "training_state").mkdir()

    checkpoints = Checkpoints(root / "checkpoints", stage, keep=9)
    for step in steps:
        checkpoints.save(step, write)
    if best is not None:
        checkpoints.mark_best(best, "loss", 0.5)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    stages = [{"name": name} for name in ("low", "high", "detail")]
    (tmp_path / "config.json").write_text(json.dumps({"name": "films", "stages": stages}))
    # Written in another order than trained, so that neither names nor modification times matter.
    save(tmp_path, "high", 5, 10, best=5)
    save(tmp_path, "low", 20, 10, best=20)
    (tmp_path / "final").mkdir()
    return tmp_path


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (None, "final"),
        ("latest", "checkpoints/high-step-00000010"),
        ("best", "checkpoints/high-step-00000005"),
        ("20", "checkpoints/low-step-00000020"),
        ("0005", "checkpoints/high-step-00000005"),
        ("low-step-00000010", "checkpoints/low-step-00000010"),
    ],
)
def test_the_result_or_a_checkpoint(run: Path, wanted: str | None, found: str):
    assert choose_weights(run, wanted) == run / found


def test_a_damaged_checkpoint_is_not_taken(run: Path):
    (run / "checkpoints" / "high-step-00000010" / "model_index.json").write_text("[]")
    assert choose_weights(run, "latest") == run / "checkpoints" / "high-step-00000005"
    with pytest.raises(RunFolderError, match=r"high-step-00000010 is damaged.*checkpoints: high-step-00000005"):
        choose_weights(run, "high-step-00000010")


@pytest.mark.parametrize(
    ("wanted", "reason"),
    [
        ("10", "has 2 checkpoints of step 10; choose one by name: high-step-00000010, low-step-00000010"),
        ("7", "no checkpoint '7'; checkpoints: high-step-00000005"),
        ("../final", r"no checkpoint '\.\./final'"),
        ("", "no checkpoint ''"),
    ],
)
def test_what_is_not_there_is_answered_with_what_is(run: Path, wanted: str, reason: str):
    with pytest.raises(RunFolderError, match=reason):
        choose_weights(run, wanted)


def test_a_run_that_has_only_begun(tmp_path: Path):
    (tmp_path / "config.json").write_text('{"stages": [{"name": "low"}]}')
    for wanted, reason in (
        (None, "pass --checkpoint latest"),
        ("latest", "no intact"),
        ("best", "sets no keep_best"),
    ):
        with pytest.raises(RunFolderError, match=reason):
            choose_weights(tmp_path, wanted)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(RunFolderError, match="cannot be read"):
        choose_weights(tmp_path, "latest")
