"""Ctrl-C in real processes: what was written is reported, nothing partial stays, and the status is 130."""

import signal
import time
from pathlib import Path

from tests.warm_process import COMMAND_LINE, WarmProcess
from videocrafter.cli.generate.run import _Terminal
from videocrafter.generation.processes import ProcessShare
from videocrafter.generation.request import GenerateOptions, PromptRow

INTERRUPTED = 130


def started(t2v_folder, tmp_path, *options):
    prompts = ("a cat", "a rocket", "a red car")
    command = ("generate", *prompts, "-m", t2v_folder, "-o", "v.gif", "--seed", 1, *options)
    return WarmProcess(COMMAND_LINE, *command, cwd=tmp_path)


def wait_for(path, process):
    while not path.exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)


def test_finished_and_unfinished_videos_are_named(t2v_folder, tmp_path):
    process = started(t2v_folder, tmp_path, "--steps", 30)
    wait_for(tmp_path / "v-000.gif.json", process)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate()
    assert process.returncode == INTERRUPTED, errors
    assert "Traceback" not in errors
    assert "Interrupted. Written: v-000.gif; not generated: v-001.gif, v-002.gif." in errors
    assert sorted(path.name for path in tmp_path.iterdir()) == ["v-000.gif", "v-000.gif.json"]


def test_each_of_several_processes_names_its_own_videos():
    options = GenerateOptions(output=Path("v.gif"), rows=(PromptRow(prompt="a cat"),) * 4)
    terminal = _Terminal(options, ProcessShare(index=1, count=2))
    assert terminal.unfinished() == "Process 2 of 2: No video was written; not generated: v-001.gif, v-003.gif."
    terminal.num_written = 1
    assert terminal.unfinished() == "Process 2 of 2: Written: v-001.gif; not generated: v-003.gif."
    assert _Terminal(options, ProcessShare(index=1, count=2, split="frames")).unfinished() == "", "the first writes"


def test_a_second_interruption_ends_the_process_at_once(t2v_folder, tmp_path):
    process = started(t2v_folder, tmp_path, "--steps", 900, "--frames", 64, "--preview", "p.png")
    wait_for(tmp_path / "p.png", process)
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGINT)
    process.wait(20)
    # Both signals may arrive as one.
    assert process.returncode in (INTERRUPTED, -signal.SIGINT)
