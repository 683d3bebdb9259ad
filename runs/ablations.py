"""Examine a model with several settings, and other models, and write one table with intervals.

    python runs/ablations.py outputs/ablations
    python runs/ablations.py outputs/ablations --prompts 28 --steps 25 12 4 --model "older=outputs/older/final"
    python runs/ablations.py outputs/rare --of outputs/a/final --guidance --subjects cat frog --judge FOLDER

Each row is an exam of `videocrafter evaluate` on the same held-out prompts with the same seeds; only its part on
prompts is run. An exam that has its report is not repeated, so the same command resumes; a report of another model or
of other settings ends it with a message. The table goes to table.md.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from videocrafter.evaluation.exam.exam import ExamConfig, exam_protocol, run_exam
from videocrafter.evaluation.exam.judging import load_judge
from videocrafter.evaluation.exam.questions import ExamWorld
from videocrafter.evaluation.exam.report import ANSWERS
from videocrafter.evaluation.model_identity import describe_model
from videocrafter.evaluation.results import REPORT
from videocrafter.models.judge import VideoJudge
from videocrafter.pipelines.loading import load_pipeline

_WHAT = ("subject", "motion", "scene")
_Z = 1.959964  # two-sided 95 %
Marks = Mapping[str, tuple[bool, bool, bool]]
"""Whether subject, motion and scene are right, by prompt."""


@dataclass(frozen=True)
class Row:
    """One line of the table: a model with its settings; see `ExamConfig`."""

    name: str
    model: str
    settings: Mapping[str, Any]


def main(argv: Sequence[str] | None = None) -> None:
    """Run the exams that are missing, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path, help="folder of the exams and the table")
    parser.add_argument("--of", default="tiny-t2v", help="the model whose settings vary (%(default)s)")
    parser.add_argument("--steps", type=int, nargs="+", default=[25, 12, 4], help="sampling steps (25 12 4)")
    parser.add_argument(
        "--guidance", type=float, nargs="*", default=[1.0], help="a further row for each guidance scale (1.0)"
    )
    parser.add_argument("--subjects", nargs="+", help="ask for these subjects only")
    parser.add_argument("--judge", type=Path, help="folder of the judge (the shipped one)")
    parser.add_argument("--model", action="append", default=[], metavar="NAME=FOLDER", help="another model")
    parser.add_argument("--prompts", type=int, default=240, help="number of held-out prompts (%(default)s)")
    given = parser.parse_args(argv)
    rows = planned(given.of, given.steps, given.guidance, [text.partition("=")[::2] for text in given.model])
    names = [row.name for row in rows]
    if len(set(names)) < len(names):
        parser.error(f"the rows are {', '.join(names)}; give each another number of steps, or another name")
    judge, marks = load_judge(given.judge), {}
    world = ExamWorld.of_judge(judge)
    if given.subjects:
        world = replace(world, subjects=tuple(given.subjects))
    for row in rows:
        folder = given.output / folder_name(row.name)
        examine(row, folder, given.prompts, world, judge)
        marks[row.name] = read_marks(folder)
    text = table(marks)
    (given.output / "table.md").write_text(text, encoding="utf-8")
    print(text, end="")


def planned(
    model: str, steps: Sequence[int], guidance: Sequence[float], others: Sequence[tuple[str, str]]
) -> list[Row]:
    """Return the rows: the model with each number of steps, with other guidance scales, and the other models."""
    found = [Row(f"{count} steps", model, {"num_inference_steps": count}) for count in steps]
    found[1:1] = [
        Row(
            f"{steps[0]} steps, {'no guidance' if scale == 1 else f'guidance {scale:g}'}",
            model,
            {"num_inference_steps": steps[0], "guidance_scale": scale},
        )
        for scale in guidance
    ]
    return found + [Row(name, folder, {"num_inference_steps": steps[0]}) for name, folder in others]


def folder_name(name: str) -> str:
    """Return the name of a row's folder: readable, allowed by every file system, and distinct for distinct names."""
    readable = "".join(one if one.isalnum() else "-" for one in name)
    return f"{readable}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def examine(row: Row, folder: Path, prompts: int, world: ExamWorld, judge: VideoJudge) -> None:
    """Run the exam of a row on prompts of this world alone, unless it has its report.

    Raises:
        SystemExit: the report is of another model or of other settings.
    """
    config = ExamConfig(
        num_prompts=prompts,
        num_speed_prompts=0,
        num_images=0,
        num_variety_prompts=0,
        world=world,
        **dict(row.settings),
    )
    pipeline: Any = load_pipeline(row.model)
    if (folder / REPORT).is_file():
        check_finished(folder, config, {"t2v": describe_model(pipeline), "judge": describe_model(judge)})
        return
    print(row.name, file=sys.stderr)
    pipeline.set_progress_bar_config(disable=True)
    run_exam(
        folder,
        pipeline,
        config=config,
        judge=judge,
        on_progress=lambda done, total: print(done, total, file=sys.stderr),
    )


def check_finished(folder: Path, config: ExamConfig, models: Mapping[str, Any]) -> None:
    """Stop unless the report in a folder is of these settings and models."""
    report = json.loads((folder / REPORT).read_text(encoding="utf-8"))
    found, model = report["settings"], report["models"]["t2v"]
    expected = json.loads(json.dumps(models["t2v"]))
    differing = {
        "other prompts, or another judge or version": report["protocol"] != exam_protocol(config, models),
        "other steps": found["num_inference_steps"] != config.num_inference_steps,
        "another guidance scale": found["guidance_scale"] != config.guidance_scale,
        "other weights": model["weights_sha256"] != expected["weights_sha256"],
        "other recommended settings": model.get("defaults") != expected.get("defaults"),
        "another scheduler": model.get("scheduler") != expected.get("scheduler"),
    }
    reasons = [reason for reason, differs in differing.items() if differs]
    if reasons:
        raise SystemExit(
            f"{folder} was examined with {', '.join(reasons)}; use another output folder, or remove this one to "
            "examine the model again"
        )


def read_marks(folder: Path) -> Marks:
    """Return what the judge found right in an exam, from its answers to prompts."""
    lines = [json.loads(line) for line in (folder / ANSWERS).read_text(encoding="utf-8").splitlines()]
    return {
        line["prompt"]: tuple(asked == seen for asked, seen in zip(line["asked"], line["seen"], strict=True))
        for line in lines
        if line["part"] == "text"
    }


def table(marks: Mapping[str, Marks]) -> str:
    """Return accuracies in per cent with 95 % intervals, and what changed from the first row, as Markdown.

    Raises:
        ValueError: two exams asked for different prompts.
    """
    first = next(iter(marks.values()))
    lines = [
        f"| {len(first)} prompts | subject | motion | scene | all three | difference |",
        "|---|---:|---:|---:|---:|---|",
    ]
    for name, one in marks.items():
        if one.keys() != first.keys():
            raise ValueError(f"{name} was examined on other prompts than the first row; use another output folder")
        every = [(*rights, all(rights)) for rights in one.values()]
        cells = [_share([rights[index] for rights in every]) for index in range(len(_WHAT) + 1)]
        lines.append(f"| {name} | {' | '.join(cells)} | {'' if one is first else difference(first, one)} |")
    return "\n".join(lines) + "\n"


def wilson_interval(right: int, count: int) -> tuple[float, float]:
    """Return the 95 % interval of a share (Wilson, 1927), which has a width at 0 and 1, too."""
    share, square = right / count, _Z * _Z
    middle = (share + square / (2 * count)) / (1 + square / count)
    half = _Z / (1 + square / count) * math.sqrt(share * (1 - share) / count + square / (4 * count * count))
    return max(0.0, middle - half), min(1.0, middle + half)


def _share(rights: Sequence[bool]) -> str:
    low, high = wilson_interval(sum(rights), len(rights))
    return f"{100 * sum(rights) / len(rights):.0f} ({100 * low:.0f} to {100 * high:.0f})"


def difference(first: Marks, one: Marks) -> str:
    """Return the numbers of prompts gained and lost against `first`, and the verdict of McNemar's exact test."""
    gained = sum(all(one[prompt]) and not all(first[prompt]) for prompt in first)
    lost = sum(all(first[prompt]) and not all(one[prompt]) for prompt in first)
    changed = gained + lost
    chance = 2 * sum(math.comb(changed, count) for count in range(min(gained, lost) + 1)) / 2**changed
    verdict = "not distinguishable" if chance > 0.05 else "higher" if gained > lost else "lower"
    return f"{gained} gained, {lost} lost: {verdict}"


if __name__ == "__main__":
    main()
