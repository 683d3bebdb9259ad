import io
import json
import shutil
from pathlib import Path

import pytest
from rich.console import Console

from tests.unit.training.tracking.test_run_comparison import write_run
from videocrafter.cli.train.runs_watch import current_view, watch


def console() -> Console:
    return Console(file=io.StringIO(), width=100, height=40, force_terminal=True, color_system=None)


def text_of(folder: Path, metrics: list[str] | None = None) -> str:
    output = console()
    output.print(current_view(folder, metrics, 100))
    return output.file.getvalue()  # type: ignore[attr-defined]


def test_one_run_is_seen_as_it_shows_itself(tmp_path: Path) -> None:
    write_run(tmp_path / "mine", {"gate": [(9, 5, 9.0)], "low": [(10, 10, 3.0), (20, 20, 2.25)]})
    for text in (text_of(tmp_path), text_of(tmp_path / "mine")):
        assert "mine (made), stage low: last log line 0:0" in text
        assert "20 %, step 20 of 100" in text
        assert "2.25       █▁" in text
        assert "validation, step 20" in text


def test_several_runs_are_a_table(tmp_path: Path) -> None:
    write_run(tmp_path / "a", {"low": [(10, 10, 3.0)]})
    write_run(tmp_path / "b", {"low": [(10, 10, 2.0)]}, finished=True)
    assert [line.split()[:2] for line in text_of(tmp_path).splitlines()[1:]] == [["a", "low"], ["b", "finished"]]
    assert "gauge_" in text_of(tmp_path, ["gauge_motion"])


def test_it_looks_again_until_ctrl_c(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "mine", {"low": [(10, 10, 3.0)]})
    looks = 0

    def wait(seconds: float) -> None:
        nonlocal looks
        looks += 1
        if looks == 1:
            line = {"stage": "low", "step": 77, "kind": "train", "loss": 1.0}
            with (folder / "log.jsonl").open("a") as file:
                file.write(json.dumps(line) + "\n" + '{"stage": "low", "st')
        elif looks == 2:
            shutil.rmtree(folder)
        else:
            raise KeyboardInterrupt

    output = console()
    watch(tmp_path, None, output, wait)
    text = output.file.getvalue()  # type: ignore[attr-defined]
    assert text.index("step 10 of 100") < text.index("step 77 of 100") < text.index("contains no run")
    assert text.endswith("\x1b[?25h")  # the cursor is back


def test_there_has_to_be_a_run_to_begin_with(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="contains no run"):
        watch(tmp_path, None, console(), lambda seconds: pytest.fail("it went on"))
