"""Write the report of a study: report.json, report.md, votes.csv and preferences.svg."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from videocrafter.evaluation.results import without_nan
from videocrafter.evaluation.study.analysis import analyse_aspect, scores_by_video
from videocrafter.evaluation.study.calibration import calibrate, within_prompts
from videocrafter.evaluation.study.design import ASPECTS, StudyDesign, read_design
from videocrafter.evaluation.study.exclusion import check_results, excluded_raters
from videocrafter.evaluation.study.figure import bar_chart
from videocrafter.evaluation.study.measurements import Measurements
from videocrafter.evaluation.study.resampling import DRAWS
from videocrafter.evaluation.study.store import DATABASE_FILE, open_database
from videocrafter.evaluation.study.votes import GivenAnswer, Rater, counted, read_answers, votes_table
from videocrafter.evaluation.uncertainty import FEWEST_PROMPTS
from videocrafter.media.atomic_write import write_all

REPORT_FILE, TABLE_FILE, VOTES_FILE, FIGURE_FILE = "report.json", "report.md", "votes.csv", "preferences.svg"


def write_study_report(
    folder: Path,
    output: Path,
    measurements: Measurements | None = None,
    *,
    overwrite: bool = False,
    draws: int = DRAWS,
) -> dict[str, Any]:
    """Analyse the answers so far and write all files of the report, or none. A running server may keep running.

    Args:
        folder: of the study.
        output: folder of the report.
        measurements: automatic metrics to calibrate to the votes, or None.
        overwrite: whether files of an earlier report are replaced.
        draws: bootstrap draws.

    Returns:
        The content of report.json.

    Raises:
        ValueError: there are no answers that count, the study is damaged, or the metrics do not fit.
        MediaError: the report exists already or cannot be written.
    """
    design = read_design(folder)
    if not (folder / DATABASE_FILE).is_file():
        raise ValueError(f"{folder} has no answers yet; start the study with `videocrafter study serve {folder}`")
    with closing(open_database(folder / DATABASE_FILE, design)) as connection:
        raters, answers = read_answers(connection)
    excluded = excluded_raters(design, answers)
    votes = counted(answers, excluded)
    if not votes:
        reasons = f" (excluded: {len(excluded)} of {len(raters)} raters)" if excluded else ""
        raise ValueError(f"{folder} has no answers that count{reasons}; collect more and make the report again")
    report = analyse(design, raters, answers, excluded, draws=draws)
    if measurements is not None:
        report["calibration"] = _calibration(design, votes, measurements)
    files = {
        REPORT_FILE: json.dumps(without_nan(report), indent=1, ensure_ascii=False) + "\n",
        TABLE_FILE: markdown(report),
        VOTES_FILE: votes_table(design, answers, excluded),
        FIGURE_FILE: bar_chart(design, report["aspects"]),
    }
    write_all({output / name: text.encode() for name, text in files.items()}, overwrite=overwrite)
    return report


def analyse(
    design: StudyDesign,
    raters: Sequence[Rater],
    answers: Sequence[GivenAnswer],
    excluded: Mapping[int, str],
    *,
    draws: int = DRAWS,
) -> dict[str, Any]:
    """Return the report's content."""
    votes = counted(answers, excluded)
    states = Counter(rater.state for rater in raters)
    checks = [check_results(design, [one for one in answers if one.rater == rater.number]) for rater in raters]
    return {
        "title": design.title,
        "design_hash": design.hash,
        "kind": design.kind,
        "systems": list(design.systems),
        "num_prompts": len(design.prompts),
        "raters": {
            "joined": len(raters),
            "finished": states["finished"],
            "withdrawn": states["withdrawn"],
            "excluded": len(excluded),
            "counted": len({given.rater for given in votes}),
        },
        "checks": {"answered": sum(c.answered for c in checks), "failed": sum(c.failed for c in checks)},
        "excluded": [{"rater": rater, "reason": reason} for rater, reason in sorted(excluded.items())],
        "exclusion_rules": asdict(design.exclusion),
        "completion_codes": sorted(rater.code for rater in raters if rater.state == "finished"),
        "bootstrap_draws": draws,
        "aspects": {name: analyse_aspect(design, votes, name, draws=draws) for name in design.aspects},
    }


def _calibration(
    design: StudyDesign, votes: Sequence[GivenAnswer], measurements: Measurements
) -> dict[str, dict[str, Any]]:
    """Return the regression of each aspect's votes on the metrics."""
    result = {}
    sources = {(clip.system, clip.prompt): clip.source for clip in design.clips.values()}
    for aspect in design.aspects:
        scores = scores_by_video(design, votes, aspect)
        known = [
            (prompt, score, values)
            for (system, prompt), score in scores.items()
            if (
                values := measurements.of(
                    design.systems[system], design.prompts[prompt], sources.get((system, prompt))
                )
            )
            is not None
        ]
        if not known:
            raise ValueError(
                "the metrics and the study share no video; check the names of systems, prompts and seeds"
            )
        missing = len(scores) - len(known)
        if design.kind == "pairs":  # one video of a prompt has no difference
            counts = Counter(prompt for prompt, _, _ in known)
            known = [one for one in known if counts[one[0]] > 1]
        prompts = [prompt for prompt, _, _ in known]
        metrics = np.array([values for _, _, values in known]).reshape(-1, len(measurements.names))
        given = np.array([score for _, score, _ in known])
        if design.kind == "pairs":
            metrics, given = within_prompts(metrics, prompts), within_prompts(given, prompts)
        fit = calibrate(metrics, measurements.names, given, prompts, seed=design.seed)
        result[aspect] = {**asdict(fit), "without_metrics": missing}
    return result


def markdown(report: Mapping[str, Any]) -> str:
    """Format a report as Markdown."""
    raters = report["raters"]
    lines = [
        f"# {report['title']}",
        "",
        f"{raters['counted']} raters counted of {raters['joined']} who joined ({raters['finished']} finished, "
        f"{raters['withdrawn']} withdrew, {raters['excluded']} excluded); {report['num_prompts']} prompts; "
        f"{report['checks']['failed']} of {report['checks']['answered']} attention checks failed.",
        "",
        f"Intervals are 95 %, over prompts. Design {report['design_hash'][:12]}.",
    ]
    for aspect, numbers in report["aspects"].items():
        lines += ["", f"## {ASPECTS[aspect].title}", "", *_aspect(report["kind"], numbers)]
    if report["excluded"]:
        lines += ["", "## Excluded raters", ""]
        lines += [f"- rater {one['rater']}: {one['reason']}" for one in report["excluded"]]
    if "calibration" in report:
        lines += ["", "## Calibration of automatic metrics", "", *_calibration_table(report)]
    return "\n".join(lines) + "\n"


def _aspect(kind: str, numbers: Mapping[str, Any]) -> Iterable[str]:
    if kind == "pairs":
        yield "| system | preference | strength |"
        yield "|---|---:|---:|"
        for name, row in numbers["systems"].items():
            score = _with_interval(row["score"], row["score_interval"])
            yield f"| {_cell(name)} | {score} | {_with_interval(row['strength'], row['strength_interval'])} |"
        yield ""
        yield "| first | second | first wins | equal | second wins | result |"
        yield "|---|---|---:|---:|---:|---|"
        for row in numbers["pairs"]:
            counts = f"{row['first_wins']} | {row['ties']} | {row['second_wins']}"
            yield f"| {_cell(row['first'])} | {_cell(row['second'])} | {counts} | {_verdict(row)} |"
    else:
        yield "| system | mean rating | 1 | 2 | 3 | 4 | 5 |"
        yield "|---|---:|---:|---:|---:|---:|---:|"
        for name, row in numbers["systems"].items():
            mean = _with_interval(row["mean"], row["mean_interval"])
            yield f"| {_cell(name)} | {mean} | {' | '.join(map(str, row['ratings']))} |"
        yield ""
        for row in numbers["pairs"]:
            yield f"- {row['first']} and {row['second']}: {_verdict(row)}"
    yield ""
    yield (
        f"{numbers['num_votes']} votes; Krippendorff's alpha ({numbers['alpha_level']}) {_number(numbers['alpha'])}."
    )


def _verdict(row: Mapping[str, Any]) -> str:
    if row["num_prompts"] < FEWEST_PROMPTS:
        return f"no verdict with fewer than {FEWEST_PROMPTS} prompts"
    if not row["distinguishable"]:
        return "not distinguishable"
    return f"{_cell(row['first'] if row['difference'] > 0 else row['second'])} is better"


def _calibration_table(report: Mapping[str, Any]) -> Iterable[str]:
    if report["kind"] == "pairs":
        yield "Votes and metrics are differences from the mean of their prompt."
        yield ""
    yield "Correlation of votes with predictions for prompts that the fit did not see:"
    yield ""
    yield "| aspect | Spearman | Kendall | Pearson | videos | regression |"
    yield "|---|---:|---:|---:|---:|---|"
    for aspect, fit in report["calibration"].items():
        terms = " ".join(f"{weight:+.4g}·{_cell(name)}" for name, weight in fit["coefficients"].items())
        values = " | ".join(_number(fit[name]) for name in ("spearman", "kendall", "pearson"))
        title = ASPECTS[aspect].title
        yield f"| {title} | {values} | {fit['num_videos']} | {fit['intercept']:.4g} {terms} |"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _with_interval(value: float, ends: Sequence[float]) -> str:
    return f"{_number(value)} ({_number(ends[0])} to {_number(ends[1])})"


def _number(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.2f}"
