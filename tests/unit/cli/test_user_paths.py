"""`~` in the paths of every command."""

from pathlib import Path
from typing import Any, get_type_hints

import pytest
from typer.main import get_command

from tests.unit.cli.conftest import Run
from videocrafter.cli.main import app
from videocrafter.cli.user_paths import UserPathCommand

SETTINGS = {"set_"}
TEXTS = {"model", "name", "i2v", "init", "cache", "lora"}


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def commands(group: Any = None, prefix: str = "") -> dict[str, Any]:
    """Every command by its words, those of groups included."""
    found: dict[str, Any] = {}
    for name, command in (get_command(app) if group is None else group).commands.items():
        inner = (
            commands(command, f"{prefix}{name} ") if hasattr(command, "commands") else {f"{prefix}{name}": command}
        )
        found |= inner
    return found


@pytest.mark.parametrize("name", list(commands()))
def test_every_path_parameter_of_every_command(home: Path, name: str) -> None:
    command = commands()[name]
    assert isinstance(command, UserPathCommand)
    types = get_type_hints(command.callback)
    arguments: list[str] = []
    wanted: dict[str, str] = {}
    for parameter in command.params:
        kind = types.get(parameter.name)
        if parameter.name in SETTINGS:
            given, wanted[parameter.name] = "a.b=~/x", f"a.b={home}/x"
        elif parameter.name in TEXTS or kind in (Path, Path | None):
            given, wanted[parameter.name] = "~/x", f"{home}/x"
        elif parameter.required:
            given = "x"
        else:
            continue
        option = parameter.opts[0]
        arguments.append(f"{option}={given}" if option.startswith("-") else given)
    values = command.make_context(name, arguments).params
    for key, expected in wanted.items():
        value = values[key]
        assert str(value[0] if isinstance(value, list | tuple) else value) == expected


def test_videos_and_models_at_home(home: Path, cli: Run, t2v_folder: Path) -> None:
    (home / "model").symlink_to(t2v_folder)
    (home / "prompts.txt").write_text("a cat")
    options = ("--model=~/model", "--prompts=~/prompts.txt", "--output=~/a.mp4", "--steps=1")
    assert cli("generate", *options).exit_code == 0
    assert (home / "a.mp4").is_file()
    assert not (home / "~").exists()


def test_a_prompt_is_not_a_path(home: Path, cli: Run, t2v_folder: Path) -> None:
    assert cli("generate", "~/a cat", "--model", t2v_folder, "-o", "a.mp4", "--steps", "1").exit_code == 0
    assert '"~/a cat"' in (home / "a.mp4.json").read_text()
