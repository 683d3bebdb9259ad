"""`python -m tests.golden FOLDER`: compare our outputs with stored outputs of the official code, as a table.

Prints the largest error of each output of each variant, in units of that output's standard deviation. Also compares
the token ids of the prompts in `tokens.json`, if present. Exits with 1 if an error exceeds the limit, and with 2 if
there is nothing to compare.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.golden.comparison import LIMIT, compare, wrongly_tokenized
from tests.golden.official_numbers import DATA, OfficialNumbers, variants_in


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.golden", description=__doc__)
    parser.add_argument(
        "folder", type=Path, nargs="?", default=DATA, help="holds VARIANT.json and VARIANT.safetensors"
    )
    folder = parser.parse_args(arguments).folder
    variants = variants_in(folder)
    if not variants:
        sys.stderr.write(f"{folder} holds no variant: expected pairs of VARIANT.json and VARIANT.safetensors\n")
        return 2
    errors = {variant: compare(OfficialNumbers(variant, folder)) for variant in variants}
    sys.stdout.write(table(errors))
    failed = [f"{variant} {name}" for variant, found in errors.items() for name, e in found.items() if not e <= LIMIT]
    if (tokens := folder / "tokens.json").is_file():
        wrong, num_prompts = wrongly_tokenized(tokens)
        sys.stdout.write(f"tokens.json: {num_prompts - len(wrong)} of {num_prompts} prompts have the same ids\n")
        failed += [f"tokens of {prompt!r}" for prompt in wrong]
    count = sum(len(found) for found in errors.values())
    verdict = f"{len(failed)} failed: {', '.join(failed)}" if failed else "none failed"
    sys.stdout.write(f"{count} outputs of {len(errors)} variants, limit {LIMIT:g}: {verdict}\n")
    return 1 if failed else 0


def table(errors: dict[str, dict[str, float]]) -> str:
    """Return a table with a row per output and a column per variant."""
    names = list(dict.fromkeys(name for found in errors.values() for name in found))
    width = max(map(len, names))
    columns = {variant: max(len(variant), 8) for variant in errors}
    lines = [" ".join(["output".ljust(width), *(variant.rjust(columns[variant]) for variant in errors)])]
    for name in names:
        cells = [f"{found[name]:.1e}" if name in found else "-" for found in errors.values()]
        lines.append(
            " ".join([name.ljust(width), *(c.rjust(w) for c, w in zip(cells, columns.values(), strict=True))])
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
