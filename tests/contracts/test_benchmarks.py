"""The benchmarks run at toy sizes and compute their results correctly. No times are checked."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from benchmarks import generation, training, training_step
from benchmarks.turns import compare, take_turns

from tests.command_line import call
from tests.tiny_models import save_tiny_pipeline
from videocrafter.models import attention
from videocrafter.training.parallel.processes import Processes

ROOT = Path(__file__).parents[2]
README = (ROOT / "benchmarks" / "README.md").read_text(encoding="utf-8")
SCRIPTS = (
    "clip_cache",
    "damage",
    "data_loading",
    "full_size",
    "generation",
    "kills",
    "samplers",
    "studio",
    "study_server",
    "training",
)


def table(text: str) -> dict[tuple[str, ...], list[str]]:
    """The cells of a Markdown table's rows, by the first one or two."""
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"]
    return {tuple(row[:2]): row for row in rows[2:]}


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> str:
    return training_step.save_random_parts(tmp_path_factory.mktemp("parts"))


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_of_every_script_loads_no_torch(script: str):
    code = f"import sys; from benchmarks import {script}\ntry: {script}.main(['--help'])\n"
    code += "finally: assert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert f"python -m benchmarks.{script}" in done.stdout
    assert f"`{script}.py`" in README


def test_variants_take_turns():
    order = []
    turns = take_turns({name: lambda name=name: order.append(name) or {"s": len(order)} for name in "AB"}, 2)
    assert order == ["A", "B", "A", "B"]
    assert turns == {"A": [{"s": 1}, {"s": 3}], "B": [{"s": 2}, {"s": 4}]}


def test_ratios_are_of_the_same_round():
    # The machine is ten times slower in the last round; a ratio of medians would be 3 / 2.
    turns = {"A": [{"s": 1.0}, {"s": 2.0}, {"s": 20.0}], "B": [{"s": 3.0}, {"s": 6.0}, {"s": 60.0, "x": 1.0}]}
    assert compare(turns, "A") == [("A", "s", 2.0, 1.0, 20.0, None), ("B", "s", 6.0, 3.0, 60.0, 3.0)]


def test_a_training_step_is_measured(parts: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    options = ["--smoke", "--repeats", "1", "--steps", "1", "--warm-up", "1", "--threads", "1", "--parts", parts]
    training.main(
        [*options, "--variants", "plain", "contiguous+sdpa", "encode", "--output", str(tmp_path / "results")]
    )
    rows = table(capsys.readouterr().out)
    assert [what for what, _ in rows] == ["baseline", "contiguous+sdpa", "encode", "plain"]
    assert rows["baseline", "samples/s"][5] == "–"
    assert float(rows["encode", "samples/s"][5]) > 0
    written = json.loads((tmp_path / "results" / "training.json").read_text())
    assert written["turns"]["encode"][0]["samples/s"] > 0
    assert "| encode |" in (tmp_path / "results" / "training.md").read_text()
    waits = re.search(
        r"waits for batches: baseline (\S+)%, contiguous\+sdpa \S+%, encode (\S+)%", "\n".join(written["notes"])
    )
    assert waits is not None
    # Clips encoded beforehand are only looked up.
    assert 0 <= float(waits[1]) < float(waits[2]) < 100
    with pytest.raises(SystemExit, match="2"):
        training.main([*options, "--output", str(tmp_path / "results")])
    assert "holds results already" in capsys.readouterr().err


def test_a_worker_prints_its_readings(parts: str, capsys: pytest.CaptureFixture[str]):
    training.main(["--worker", "--smoke", "--steps", "1", "--warm-up", "1", "--threads", "1", "--parts", parts])
    assert json.loads(capsys.readouterr().out)["samples/s"] > 0


def test_an_unknown_variant_is_refused_with_the_known_ones(parts: str):
    with pytest.raises(
        SystemExit, match=r"unknown variant 'b16'; use plain, or words joined by .*: baseline, again, bf16"
    ):
        training.main(["--smoke", "--parts", parts, "--variants", "b16"])


def test_the_readme_explains_every_variant():
    words = set(training_step.CHANGES) - {training_step.BASELINE}
    assert {word for word in {*words, training_step.PLAIN} if f"`{word}`" not in README} == set()
    named = {part for name in training_step.default_variants(with_compile=True) for part in name.split("+")}
    assert named <= {*words, training_step.PLAIN}


def test_both_ways_to_attend_are_forced_and_agree():
    q, k, v = torch.randn(3, 2, 4, 5, 8, requires_grad=True).unbind()
    answers, shipped = {}, attention.attend
    for how in ("explicit", "sdpa"):
        with training_step.attention_computed(how):
            assert attention.attend is not shipped
            answers[how] = attention.attend(q, k, v)
    assert attention.attend is shipped
    torch.testing.assert_close(answers["explicit"], answers["sdpa"])


@pytest.mark.parametrize(("name", "expected"), [("baseline", True), ("contiguous", False)])
def test_a_layout_reaches_the_middle_of_the_network(parts: str, tmp_path: Path, name: str, expected: bool):
    stage = training_step.measured_stage(parts, smoke=True)
    step = training_step.TrainingStep(stage, training_step.variant(name), tmp_path, Processes("cpu"))
    seen = []
    network = step._state.modules["unet"]
    network.middle_in.register_forward_pre_hook(
        lambda _, given: seen.append(given[0].is_contiguous(memory_format=torch.channels_last))
    )
    step.run(1)
    assert set(seen) == {expected}


def test_a_video_is_measured_warm_and_cold(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    """Cold commands run in this process, because starting new ones takes long."""
    model = save_tiny_pipeline(tmp_path / "model", image=False)
    capsys.readouterr()

    def in_this_process(command: list[str], threads: int, *, imports: bool = False) -> dict[str, float]:
        done = call(command[3:])
        assert done.exit_code == 0, done.output
        return {"total, s": 2.0, "imports, s": 1.5} if imports else {"total, s": 4.0}

    monkeypatch.setattr(generation, "process_seconds", in_this_process)
    options = ["--smoke", "--repeats", "2", "--cold-repeats", "1", "--threads", "1", "--model", str(model)]
    generation.main(options)
    shown = capsys.readouterr().out
    rows = table(shown)
    phases = {"encode, s", "denoise, s", "decode, s", "total, s"}
    assert {reading for what, reading in rows if what == "warm, threads: 1"} == phases
    assert rows[generation.TIMED, "total, s"][5] == "0.5"
    assert "imports take 75 % of it" in shown
    assert "a cold video takes 4 s; the budget is 4 s" in shown


def test_imports_are_timed_within_a_process():
    code = generation._TIMED_IMPORTS
    readings = generation.process_seconds([sys.executable, "-c", code, "--help"], 1, imports=True)
    assert 0 < readings["imports, s"] < readings["total, s"]


def test_a_missing_model_is_one_clear_line(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit, match="2"):
        generation.main(["--model", "no-such-model"])
    assert "unknown model 'no-such-model'" in capsys.readouterr().err
