"""What the README says is true: its commands and its Python run, its files and pictures are there.

The commands run one after the other in one empty folder, as a reader would type them, but in one process, because
most of their time would go to imports. What takes long is cut short: videos are sampled in few steps, the toy
training takes few, real ones print their configuration instead, and the exam asks little.
"""

import itertools
import json
import os
import re
import shlex
import subprocess
import traceback
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.command_line import call
from tests.warm_process import WarmProcess

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
SHORT_EXAM = ["--quick", "--prompts", "2", "--steps", "1"]
# Half the steps; it is looked at once in each stage, as in the whole.
SHORT_TRAINING = [
    word for name in ("num_steps", "validate_every", "sample_every") for word in ("--set", f"stages.*.{name}=2")
]
FEW_STEPS = ["--steps", "2"]


def fenced(language: str) -> list[str]:
    """The contents of all code blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", README, flags=re.MULTILINE | re.DOTALL)


def option(arguments: list[str], *names: str) -> str | None:
    """The value of an option, by any of its names."""
    return next((value for name, value in itertools.pairwise(arguments) if name in names), None)


COMMANDS = [
    line.removeprefix("$ ") for block in fenced("console") for line in block.splitlines() if line.startswith("$ ")
]


@dataclass(frozen=True)
class Done:
    """One command after it ran: what followed `videocrafter`, and what came of it."""

    arguments: list[str]
    status: int
    output: str
    errors: str


def cut_short(arguments: list[str]) -> list[str]:
    """The same command where it is quick, else its quick form."""
    if arguments[:2] == ["train", "smoke"]:
        return [*arguments, *SHORT_TRAINING]
    if arguments[:1] == ["train"] and "--dry-run" not in arguments:
        return [*arguments, "--dry-run"]
    if arguments[:1] == ["evaluate"]:
        return [*arguments, *SHORT_EXAM]
    if arguments[:1] == ["generate"] and "--from" not in arguments:  # which says all, steps too
        return [*arguments, *FEW_STEPS]
    return arguments


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("reader")


@pytest.fixture(scope="module")
def history(folder: Path) -> dict[str, Done]:
    """Every command of the README, run in its order in one folder."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        return {command: run(cut_short(shlex.split(command)[1:])) for command in dict.fromkeys(COMMANDS)}
    finally:
        os.chdir(before)


def run(arguments: list[str]) -> Done:
    done = call(arguments, catch_exceptions=True, env={"COLUMNS": "100"})
    errors = "".join(traceback.format_exception(done.exception)) if done.exception else ""
    return Done(arguments, done.exit_code, done.stdout, done.stderr + errors)


def named_outputs(folder: Path, arguments: list[str]) -> dict[str, list[Path]]:
    """What a command was to write, by the name that it was given, and what is there of it."""
    output, sheet = option(arguments, "-o", "--output"), option(arguments, "--contact-sheet")
    if output is None or "--dry-run" in arguments:
        return {}
    path = folder / output
    if arguments[0] == "train":
        return {f"{output}/final": list((path / "final").glob("model_index.json"))}
    if arguments[0] == "publish":
        return {f"{output}/{name}": list(path.glob(name)) for name in ("README.md", "model_index.json")}
    if arguments[0] == "evaluate":
        return {f"{output}/report.json": list(path.glob("report.json"))}
    videos = [path] if path.exists() else sorted(path.parent.glob(f"{path.stem}-[0-9]*{path.suffix}"))
    found = {output: videos}
    for video in videos:
        recording = video.with_name(f"{video.name}.json")
        found[recording.name] = [recording] if recording.is_file() else []
    if sheet is not None:
        found[sheet] = list(folder.glob(sheet))
    return found


def test_the_readme_shows_how_to_make_train_measure_and_publish():
    assert {shlex.split(command)[1] for command in COMMANDS} == {"models", "generate", "train", "evaluate", "publish"}
    assert all(command.startswith("videocrafter ") for command in COMMANDS)
    assert any("--image" in command for command in COMMANDS)
    assert any("--from" in command for command in COMMANDS)


@pytest.mark.slow
@pytest.mark.parametrize("command", dict.fromkeys(COMMANDS))
def test_a_command_of_the_readme_does_what_it_says(command: str, folder: Path, history: dict[str, Done]):
    done = history[command]
    assert done.status == 0, done.errors
    assert "Traceback" not in done.errors
    if "--dry-run" in done.arguments:
        assert json.loads(done.output)["stages"]
    elif done.arguments[0] != "train":
        assert done.output.strip()
    missing = [name for name, found in named_outputs(folder, done.arguments).items() if not found]
    assert missing == []


@pytest.mark.slow
def test_the_python_of_the_readme_runs_and_writes_its_videos(folder: Path, history: dict[str, Done]):
    assert all(done.status == 0 for done in history.values())  # it starts from a picture that a command made
    code = "\n".join(fenced("python"))
    process = WarmProcess(code, cwd=folder)
    _, said = process.communicate()
    assert process.returncode == 0, said
    written = re.findall(r'write_video\("([^"]+)"', code)
    assert written
    assert [name for name in written if not (folder / name).is_file()] == []


def test_the_quick_start_runs_as_it_stands():
    (start,) = re.findall(r"^## Quick start$(.*?)^## ", README, flags=re.MULTILINE | re.DOTALL)
    lines = [line for block in re.findall(r"```sh\n(.*?)```", start, flags=re.DOTALL) for line in block.splitlines()]
    assert lines[0] == "make demo"
    assert set(lines[1:]) - set(COMMANDS) == {". .venv/bin/activate"}


@pytest.mark.slow
def test_make_demo_writes_its_videos_and_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    settings = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    recipe = subprocess.run(
        ["make", "-n", "demo"], cwd=ROOT, env=settings, capture_output=True, encoding="utf-8", check=True
    ).stdout.replace("\\\n", " ")
    commands = [shlex.split(line) for line in recipe.splitlines() if "videocrafter generate" in line]
    assert len(commands) == 2
    assert "mkdir -p demo" in recipe
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    (tmp_path / "demo").mkdir()
    monkeypatch.chdir(tmp_path)
    for command in commands:
        done = call(command[1:])
        assert done.exit_code == 0, done.output
    written = {path.name for path in (tmp_path / "demo").iterdir()}
    assert {"rocket.mp4", "rocket.png", "butterfly.mp4", "butterfly.png"} <= written


def tree() -> list[tuple[str, str]]:
    """(path, note) of every line of the annotated tree below its root."""
    lines = next(block for block in fenced("text") if "├──" in block).splitlines()[1:]
    parents: list[str] = []
    found = []
    for line in lines:
        match = re.fullmatch(r"((?:│   |    )*)(?:├── |└── )(\S+)(?:\s+(.*))?", line)
        assert match is not None, f"no line of a tree: {line!r}"
        depth = len(match[1]) // 4
        parents = [*parents[:depth], match[2].rstrip("/")]
        found.append(("/".join(parents) + ("/" if match[2].endswith("/") else ""), match[3] or ""))
    return found


def test_every_file_of_the_tree_exists():
    paths = [path for path, _ in tree()]
    assert "src/videocrafter/models/unet.py" in paths  # or the tree was not understood
    wrong = [
        path for path in paths if not ((ROOT / path).is_dir() if path.endswith("/") else (ROOT / path).is_file())
    ]
    assert wrong == []


def test_the_tree_says_what_each_line_is():
    inner = {path.rpartition("/")[0] for path in (path.rstrip("/") for path, _ in tree())}
    # A folder whose contents are listed below it may speak through them.
    assert [path for path, note in tree() if not note and path.rstrip("/") not in inner] == []


def test_every_room_is_in_the_tree():
    rooms = {path.parent.name for path in (ROOT / "src" / "videocrafter").glob("*/__init__.py")}
    assert {f"src/videocrafter/{room}/" for room in rooms} - {path for path, _ in tree()} == set()


def test_every_picture_of_the_readme_exists():
    pictures = re.findall(r"!\[[^\]]*\]\(([^)\s]+)\)|<img[^>]*\ssrc=\"([^\"]+)\"", README)
    local = [path for pair in pictures for path in pair if path and "://" not in path]
    assert local
    assert [path for path in local if not (ROOT / path).is_file()] == []


def test_no_blank_is_left_to_fill_in():
    assert re.findall(r"\{\{.*?\}\}", README) == []
