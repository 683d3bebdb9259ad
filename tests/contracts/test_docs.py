"""The documents agree with the code: files, names, links, commands and settings."""

import ast
import itertools
import re
import shlex
from pathlib import Path

import pytest
import typer

from videocrafter.cli.main import app
from videocrafter.presets import DEFAULT_MODEL, PRESETS

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "videocrafter"
TOUR = (ROOT / "docs" / "tour.md").read_text(encoding="utf-8")
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])
TRAINING = (ROOT / "docs" / "training.md").read_text(encoding="utf-8")
TRAIN_COMMANDS = [
    command.replace("\\\n", " ")
    for document in DOCUMENTS
    for command in re.findall(
        r"^(?:\$ )?(?:.* )?videocrafter (?:train|cache) ((?:[^\n]*\\\n)*[^\n`]*)$",
        document.read_text("utf-8"),
        re.MULTILINE,
    )
]

SHOWN_COMMANDS = sorted(
    {
        line.removeprefix("$ ").partition(" #")[0]
        for document in DOCUMENTS
        for block in re.findall(
            r"^```(?:sh|console)\n(.*?)^```", document.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL
        )
        for line in block.replace("\\\n", " ").splitlines()
        if line.removeprefix("$ ").startswith("videocrafter ")
    }
)


def names_in(path: Path) -> set[str]:
    """Functions, classes, methods ("Class.method") and module-level names of a file."""
    found: set[str] = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef):
            found.add(node.name)
        elif isinstance(node, ast.ClassDef):
            found.add(node.name)
            found |= {f"{node.name}.{part.name}" for part in node.body if isinstance(part, ast.FunctionDef)}
        elif isinstance(node, ast.Assign):
            found |= {target.id for target in node.targets if isinstance(target, ast.Name)}
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            found.add(node.target.id)
    return found


def test_the_tour_names_every_file_of_the_package():
    files = {path.relative_to(SOURCE).as_posix() for path in SOURCE.rglob("*.py") if path.stem != "__init__"}
    assert {file for file in files if f"`{file}`" not in TOUR} == set()


def test_every_file_that_the_tour_names_exists():
    named = set(re.findall(r"`([\w/.]+\.(?:py|md|sh|txt))(?::[\w.]+)?`", TOUR)) - {"report.md"}
    assert len(named) > 50
    bases = (SOURCE, ROOT, SOURCE / "assets" / "sprites")
    assert {name for name in named if not any((base / name).is_file() for base in bases)} == set()


def test_the_tour_names_the_scripts_and_what_tests_share():
    shared = [path for path in (ROOT / "tests").iterdir() if path.name[0] not in "_." and path.stem != "conftest"]
    files = {f"runs/{path.name}" for path in (ROOT / "runs").iterdir() if path.is_file()}
    files |= {f"tests/{path.name}{'/' if path.is_dir() else ''}" for path in shared}
    assert {file for file in files if f"`{file}`" not in TOUR} == set()


def test_every_make_target_of_the_documents_exists():
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE))
    asked = {
        target
        for document in DOCUMENTS
        for words in re.findall(r"(?:^|`)make((?: [a-z]+)+)(?=\s{2}|`|$)", document.read_text("utf-8"), re.MULTILINE)
        for target in words.split()
    }
    assert {"demo", "test", "check"} <= asked <= targets


def test_every_function_that_the_tour_names_exists():
    named = re.findall(r"`([\w/]+\.py):([\w.]+)`", TOUR)
    assert len(named) > 30
    assert [f"{file}:{name}" for file, name in named if name not in names_in(SOURCE / file)] == []


@pytest.mark.parametrize("document", [*DOCUMENTS, ROOT / "benchmarks" / "README.md"], ids=lambda path: path.name)
def test_links_lead_to_files_and_headings(document: Path):
    links = re.findall(r"(?<!!)\[[^\]]+\]\(([^)\s]+)\)", document.read_text(encoding="utf-8"))
    broken = []
    for link in links:
        name, _, heading = link.partition("#")
        target = document.parent / name if name else document
        if "://" in link:
            continue
        if not target.exists() or (heading and heading not in headings(target)):
            broken.append(link)
    assert broken == []


def headings(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    titles = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def test_the_index_lists_every_page():
    index = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    assert [page.name for page in ROOT.glob("docs/*.md") if f"({page.name})" not in index] == ["README.md"]


@pytest.mark.parametrize("command", TRAIN_COMMANDS)
def test_training_commands_of_the_guide_name_real_recipes_and_settings(command: str):
    from videocrafter.training.recipes.by_name import RECIPES
    from videocrafter.training.recipes.overrides import apply_overrides

    recipe, *options = shlex.split(command)
    settings = [value for name, value in itertools.pairwise(options) if name == "--set"]
    assert apply_overrides(RECIPES[recipe](), settings).name == recipe


@pytest.mark.parametrize("command", SHOWN_COMMANDS)
def test_commands_have_the_options_that_they_name(command: str):
    _, name, *arguments = shlex.split(command)
    command = typer.main.get_command(app).commands[name]  # type: ignore[attr-defined]
    while hasattr(command, "commands"):
        if arguments[0] not in command.commands and name == "plan":
            arguments = ["recipe", *arguments]
        name, *arguments = arguments
        command = command.commands[name]
    context = command.make_context(name, arguments)
    assert context.args == [], "words that are not options"
    model = context.params.get("model") or ""
    assert model in {"", DEFAULT_MODEL, *PRESETS} or "/" in model or model.startswith("my-")


def test_the_guide_lists_every_recipe_with_its_stages():
    from videocrafter.training.recipes.by_name import RECIPES

    for name, build in RECIPES.items():
        if name == "smoke":
            continue
        row = next((line for line in TRAINING.splitlines() if line.startswith(f"| `{name}` | ")), "")
        assert row, name
        assert [stage.name for stage in build().stages if f"`{stage.name}`" not in row] == [], name
