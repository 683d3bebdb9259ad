"""Ctrl-C in real processes: what was written is reported, nothing partial stays, and the status is 130."""

import signal
import time

from tests.warm_process import COMMAND_LINE, WarmProcess

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


def test_a_second_interruption_ends_the_process_at_once(t2v_folder, tmp_path):
    process = started(t2v_folder, tmp_path, "--steps", 900, "--frames", 64, "--preview", "p.png")
    wait_for(tmp_path / "p.png", process)
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGINT)
    process.wait(20)
    # Both signals may arrive as one.
    assert process.returncode in (INTERRUPTED, -signal.SIGINT)
