"""`videocrafter plan`: its tables, its JSON and its errors."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from tests.unit.cli.conftest import Run
from videocrafter.cli.planned_device import parse_device, parse_flops
from videocrafter.cli.train.plan_report import duration, gib, size

GIB = 2**30
SMALL = ["--set", "stages.lora.task.frames_like_start=false", "--set", "stages.lora.task.lora.rank=2"]
SMALL += ["--set", "stages.lora.task.data.cutting.height=16", "--set", "stages.lora.task.data.cutting.width=16"]


def test_a_plan_is_a_table_with_memory_operations_and_time(cli: Run, t2v_folder: Path):
    done = cli("plan", "lora", "--init", t2v_folder, "--device", "24GB", *SMALL)
    assert done.exit_code == 0, done.output
    for words in (
        "1 GPU with 24.0 GiB",
        "22.5 GiB",
        str(t2v_folder),
        "optimizer",
        "EMA weights",
        "FLOPs per step",
    ):
        assert words in done.stdout
    assert "NO" not in done.stdout
    assert "at 40% of 312 TFLOP/s per device" in done.stdout


def test_json_has_every_number_and_the_same_sums(cli: Run, t2v_folder: Path):
    options = ["--device", "cpu:8GB", "--flops", "1T", "--utilisation", "0.5", "--json", *SMALL]
    done = cli("plan", "lora", "--init", t2v_folder, *options)
    assert done.exit_code == 0, done.output
    plan = json.loads(done.stdout)
    (stage,) = plan["stages"]
    peak = stage["memory"]["peak"]
    assert peak["total"] == sum(value for key, value in peak.items() if key not in ("name", "total"))
    assert peak["total"] == max(moment["total"] for moment in stage["memory"]["moments"])
    assert stage["flops"] == plan["flops"] == stage["flops_per_step"] * stage["num_steps"]
    assert plan["days"] == pytest.approx(plan["flops"] / 0.5e12 / 86_400)
    assert (stage["fits"], stage["advice"]) == (True, None)
    assert plan["device"]["kind"] == "cpu"


def test_what_does_not_fit_gets_advice_unless_nobody_wants_it(
    cli: Run, t2v_folder: Path, monkeypatch: pytest.MonkeyPatch
):
    from videocrafter.training.planning import plan, suggestions
    from videocrafter.training.planning.options import Option

    monkeypatch.setattr(plan, "RESERVED", {"gpu": 0, "cpu": 0})
    quick = [(Option(settings=("ema_decay=0",), costs="no averages"),)]
    monkeypatch.setattr(suggestions, "choices", lambda stage, machine: quick)
    command = ["plan", "lora", "--init", t2v_folder, "--device", "0.1MB", *SMALL]
    done = cli(*command)
    assert done.exit_code == 0, done.output
    assert "NO" in done.stdout
    assert "lora: single settings" in done.stdout
    assert "no averages" in done.stdout
    assert "no combination of these settings fits" in done.stdout
    assert "searching for settings" in done.stderr
    assert "single settings" not in cli(*command, "--no-suggestions").stdout


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["t2v-25"], "there is no recipe 't2v-25'; did you mean t2v-256?"),
        (["lora", "--device", "lots"], "--device 'lots' is not an amount of memory; write 24GB"),
        (["lora", "--device", "tpu:24GB"], "is not an amount of memory"),
        (["lora", "--device", "1GB"], "more than the 1.5 GB"),
        (["lora", "--gpus", "0"], "--gpus is 0; give 1 or more"),
        (["t2v-256", "--device", "24GB", "--gpus", "3"], "expected a multiple of 3"),
        (["lora", "--set", "stages.lora.optimiser.lr=1"], "there is no such setting; did you mean stages.lora."),
        (["lora", "--set", "stages.lora.num_steps=no"], "num_steps"),
        (["lora", "--init", "nowhere", "--device", "24GB"], "neither a pipeline folder nor a model's name"),
        (["lora", "--flops", "much"], "--flops 'much' is not a number"),
        (["lora", "--flops", "0T"], "--flops '0T' is not a number"),
        (["lora", "--utilisation", "40"], "--utilisation is 40; give a share"),
    ],
)
def test_bad_input_is_one_line_and_status_2(cli: Run, options: list[str], expected: str):
    done = cli("plan", *options)
    assert done.exit_code == 2
    assert done.stderr.startswith("Error: ")
    assert expected in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("text", "kind", "memory"),
    [
        ("24GB", "gpu", 24 * GIB),
        ("80 GiB", "gpu", 80 * GIB),
        ("16", "gpu", 16 * GIB),
        ("gpu:11.5g", "gpu", int(11.5 * GIB)),
        ("cpu:16GB", "cpu", 16 * GIB),
        ("CPU: 4096 MB", "cpu", 4 * GIB),
    ],
)
def test_devices_are_read(text: str, kind: str, memory: int):
    machine = parse_device(text, 2)
    assert (machine.kind, machine.memory, machine.count) == (kind, memory, 2)


def test_without_a_device_it_is_this_computer():
    machine = parse_device(None, 1)
    assert machine.kind == ("gpu" if torch.cuda.is_available() else "cpu")
    assert machine.memory > 0


def test_a_system_that_tells_nothing_has_to_be_told(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("videocrafter.pipelines.generation_memory.available_memory", lambda device: None)
    with pytest.raises(ValueError, match="--device cpu:16GB"):
        parse_device(None, 1)


@pytest.mark.parametrize(
    ("text", "expected"), [("312T", 312e12), ("19.5 TFLOP/s", 19.5e12), ("1P", 1e15), ("9.9e14", 9.9e14)]
)
def test_speeds_are_read(text: str, expected: float):
    assert parse_flops(text) == pytest.approx(expected)


def test_numbers_are_written_for_people():
    assert (size(3 * GIB), size(5 * 2**20), gib(1.5 * GIB)) == ("3.0 GiB", "5 MiB", "1.50")
    assert (duration(1200), duration(0.5), duration(0.01)) == ("1,200.0 days", "12.0 h", "14 min")
