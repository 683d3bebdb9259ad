"""Documents, docstrings and messages are plain technical English: the slips that were once common stay out.

Each slip is a pattern with the words to use instead. Code, paths and quotations in documents are not read. Rooms of
the package are checked once they have been rewritten; `NOT_YET` lists the others.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "videocrafter"
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), ROOT / "benchmarks" / "README.md"])
PLACES = sorted(path.name for path in SOURCE.iterdir() if path.is_dir() and path.name[0] not in "_.")
NOT_YET: frozenset[str] = frozenset()

SLIPS = {
    r"\bbeside\b(?! the point)": "next to, alongside, in addition to",
    r"\b(?:goes|go|going|went|gone) on (?!to\b|the\b|a\b|top\b|behalf\b|disk\b)": "resume, continue, keep",
    r"\b(?:goes|go) on[.,;:)]": "resume, continue",
    r"\bmend(?:s|ed|ing)?\b": "fix",
    r"\bnumbers? that (?:learns?|is no number|are no numbers?)\b": "trainable parameters; NaN or infinity",
    r"\bby heart\b": "overfit, memorise",
    r"\bat hand\b": "available",
    r"\bwhat is left\b": "the rest, the remaining …",
    r"\bgo(?:es)? well\b": "work, succeed",
    r"\bis(?: said| told) (?:once|before|beforehand)\b": "is reported, is printed",
    r"\bis told (?:apart|which|what|that|how|the)\b": "receives, is given; is distinguished",
    r"(?<![Tt]here )\b(?:is|are|was|were) no (?!longer\b|more\b|less\b|\w+er\b|worse\b|different\b|such\b|way\b)\w": (
        "is not a …"
    ),
    r"\baveraged weights\b": "EMA weights",
    r"\bof (?:one's|ones) own\b": "your own",
    r"\bshared out\b": "sharded, split",
    r"\banew of\b": "of … again",
    r"\bstands? in (?:the way|its place|their place)\b": "prevents, replaces",
    r"\bstands? (?:beside|behind|below|above|inside)\b": "is next to, follows",
    r"\bthat nobody vouches for\b": "untrusted",
}
"""Pattern of a slip, and the words to use instead."""

OPENINGS = re.compile(r"(?:What|How|Where|Which|Whose)\b(?![^.]*\?)")
"""Docstrings begin with a verb or a noun phrase."""

QUOTED = {"decisions.md": (r"\"NaN stops the run\"",)}
"""Passages of documents that show text of others."""


def slips_in(text: str) -> list[str]:
    """Each slip in a text, with the words around it and what to write instead."""
    flat = re.sub(r"\s+", " ", text)
    return [
        f"…{flat[max(0, match.start() - 30) : match.end() + 20]}…: {instead}"
        for pattern, instead in SLIPS.items()
        for match in re.finditer(pattern, flat)
    ]


def prose_of(document: Path) -> str:
    """A document without code, links' addresses and quotations."""
    text = re.sub(r"^```.*?^```", "", document.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    text = re.sub(r"`[^`\n]*`", "`code`", text)
    for quotation in QUOTED.get(document.name, ()):
        text = re.sub(quotation, "", text)
    return re.sub(r"\]\([^)]*\)", "]", text)


def docstrings(tree: ast.AST) -> Iterator[str]:
    """Docstrings of a module, its classes and its functions, and those below attributes."""
    for node in ast.walk(tree):
        for statement in getattr(node, "body", []) if not isinstance(node, ast.IfExp | ast.Lambda) else []:
            value = statement.value if isinstance(statement, ast.Expr) else None
            if isinstance(value, ast.Constant) and isinstance(value.value, str):
                yield value.value


def messages(tree: ast.AST) -> Iterator[str]:
    """String literals with several words: error messages, log lines, help texts. Parts of f-strings count."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.count(" ") > 1:
            yield node.value


def comments(path: Path) -> str:
    """The comments of a file as one text."""
    return " ".join(re.findall(r"(?:^|\s)#\s(.*)$", path.read_text(encoding="utf-8"), flags=re.MULTILINE))


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_documents_are_plain_english(document: Path):
    assert slips_in(prose_of(document)) == []


@pytest.mark.parametrize("place", sorted(set(PLACES) - NOT_YET))
def test_sources_are_plain_english(place: str):
    found = {}
    for path in sorted((SOURCE / place).rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        slips = slips_in(comments(path)) + [slip for text in messages(tree) for slip in slips_in(text)]
        slips += [f"{text[:60]!r}: begin with a verb or a noun" for text in docstrings(tree) if OPENINGS.match(text)]
        if slips:
            found[str(path.relative_to(SOURCE))] = slips
    assert found == {}


def test_slips_are_found():
    assert slips_in("The run goes on.\nA file lies\nbeside it.") != []
    assert slips_in("The run resumes; a change to this is no longer needed.") == []
    assert OPENINGS.match("What a run needs.")
    assert not OPENINGS.match("Return the betas.")


def test_rooms_that_are_not_done_exist():
    assert set(PLACES) >= NOT_YET
