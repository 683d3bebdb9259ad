"""No import cycles: between files of the package there are none, wherever an import is written."""

import ast
from collections import deque
from collections.abc import Iterator
from pathlib import Path

SOURCE = Path(__file__).parents[2] / "src"

Imports = dict[str, dict[str, int]]
"""For each module, the modules that it imports and the line of the first such import."""


def read_imports(source: Path) -> Imports:
    """Imports between the modules below a folder, those in functions and under `if TYPE_CHECKING` included."""
    files = {_module_name(path.relative_to(source)): path for path in sorted(source.rglob("*.py"))}
    imports: Imports = {}
    for module, path in files.items():
        imports[module] = {}
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            for name in _imported_names(node):
                if name in files and name != module:
                    line = imports[module].setdefault(name, node.lineno)  # type: ignore[attr-defined]
                    imports[module][name] = min(line, node.lineno)  # type: ignore[attr-defined]
    return imports


def _module_name(path: Path) -> str:
    parts = path.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _imported_names(node: ast.AST) -> Iterator[str]:
    """Every name that may be a module; relative imports are banned by ruff."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom) and node.module:
        yield node.module
        yield from (f"{node.module}.{alias.name}" for alias in node.names)


def find_cycle(imports: Imports) -> list[str]:
    """The modules of a shortest cycle, in the order of the imports; empty if there is none."""
    cycles = (_way_back(imports, module) for module in imports)
    return min(filter(None, cycles), key=len, default=[])


def _way_back(imports: Imports, start: str) -> list[str]:
    """The shortest path from a module along imports back to itself, without its end."""
    paths, seen = deque([[start]]), set()
    while paths:
        path = paths.popleft()
        for module in imports[path[-1]]:
            if module == start:
                return path
            if module not in seen:
                seen.add(module)
                paths.append([*path, module])
    return []


def describe(cycle: list[str], imports: Imports) -> str:
    """The cycle file by file, with the line of each import."""
    steps = zip(cycle, [*cycle[1:], cycle[0]], strict=True)
    return "\n".join(f"{module}, line {imports[module][target]}, imports {target}" for module, target in steps)


IMPORTS = read_imports(SOURCE)


def test_there_are_files_to_check():
    assert len(IMPORTS) > 20


def test_no_files_import_each_other_in_a_cycle():
    cycle = find_cycle(IMPORTS)
    assert not cycle, "an import cycle:\n" + describe(cycle, IMPORTS)


def test_cycles_are_found_in_functions_and_under_type_checking(tmp_path: Path):
    files = {
        "toy/__init__.py": "",
        "toy/a.py": "def f():\n    from toy import b\n",
        "toy/b.py": "import os\nfrom typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from toy.room.c import C\n",
        "toy/room/__init__.py": "",
        "toy/room/c.py": "import toy.a\nclass C: pass\n",
        "toy/leaf.py": "from toy.a import f\nimport toy.room.d\n",
        "toy/room/d.py": "from toy import b, room\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    imports = read_imports(tmp_path)
    assert describe(find_cycle(imports), imports).splitlines() == [
        "toy.a, line 2, imports toy.b",
        "toy.b, line 4, imports toy.room.c",
        "toy.room.c, line 1, imports toy.a",
    ]
    (tmp_path / "toy" / "b.py").write_text("import os\n")
    assert find_cycle(read_imports(tmp_path)) == []
