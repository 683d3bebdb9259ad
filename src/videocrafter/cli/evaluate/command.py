"""`videocrafter evaluate`: measure videos or a model by a protocol, and write a report."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from videocrafter.cli.errors import bad_input

_EXAM, _STILLS, _DEFAULT = "exam", "stills", "standard"
# Options that protocols do not have.
_OF_VIDEOS = {"--reference", "--against", "--clip", "--weights", "--sd-images", "--image-tower"}
_OF_EXAM = {"--i2v", "--judge", "--second-judge", "--quick", "--seed"}
_OF_MODELS = ("--prompts", "--seed", "--batch-size", "--steps", "--guidance")
_REFUSED = {_EXAM: _OF_VIDEOS, _STILLS: _OF_VIDEOS | {"--i2v", "--second-judge", "--quick"}}


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command("evaluate")(evaluate)


def evaluate(
    what: Annotated[
        str,
        typer.Argument(
            metavar="WHAT", help="Folder of videos, table of videos (csv, jsonl), or name or folder of a model."
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the report and everything else.")],
    protocol: Annotated[
        str | None,
        typer.Option(
            "--protocol",
            help="standard, evalcrafter, evalcrafter-compat, vbench, exam or stills; default: exam for a model, "
            "standard for videos.",
        ),
    ] = None,
    prompts: Annotated[
        str | None,
        typer.Option(
            "--prompts",
            metavar="N|FILE",
            help="File of prompts (one per line, csv, jsonl, EvalCrafter's metadata.json), name of a shipped suite, "
            "or a number: use the first N prompts.",
        ),
    ] = None,
    reference: Annotated[
        Path | None, typer.Option("--reference", help="Folder of real videos, for distances such as FVD.")
    ] = None,
    against: Annotated[
        Path | None,
        typer.Option("--against", help="Folder of an earlier report of the same protocol: show paired differences."),
    ] = None,
    clip: Annotated[
        Path | None, typer.Option("--clip", help="Folder of a CLIP model in transformers' format.")
    ] = None,
    weights: Annotated[
        Path | None, typer.Option("--weights", help="Folder of TorchScript weights for more metrics.")
    ] = None,
    sd_images: Annotated[
        Path | None,
        typer.Option("--sd-images", help="Folder of pictures of the prompts by an image model, for the SD-score."),
    ] = None,
    image_tower: Annotated[
        str | None,
        typer.Option(
            "--image-tower",
            help="Image-to-video model whose image encoder compares frames; default: the model itself.",
        ),
    ] = None,
    i2v: Annotated[
        str | None,
        typer.Option("--i2v", help="Exam: image-to-video model to examine as well."),
    ] = None,
    judge: Annotated[
        Path | None,
        typer.Option("--judge", help="Exam: folder or training run of the judge; default: the shipped judge."),
    ] = None,
    second_judge: Annotated[
        Path | None,
        typer.Option(
            "--second-judge",
            help="Exam: folder or training run of a second judge of subjects, such as tiny-second-judge.",
        ),
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Exam: use a tenth of the prompts, a quick estimate with large errors.")
    ] = False,
    seed: Annotated[
        int | None, typer.Option("--seed", help="Exam: seed of prompts, images and videos; default: 0.")
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option("--batch-size", help="Generated videos per batch; default: 8.")
    ] = None,
    steps: Annotated[int | None, typer.Option("--steps", help="Sampling steps; default: the model's.")] = None,
    guidance: Annotated[
        float | None, typer.Option("--guidance", help="Guidance scale; default: the model's.")
    ] = None,
    device: Annotated[str, typer.Option("--device", help="cpu, cuda, mps or auto.")] = "auto",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing report.")] = False,
) -> None:
    """Measure videos or a model: print a table, write report.json and report.html."""
    from videocrafter.cli.evaluate.exam import ExamOptions, run_exam_command
    from videocrafter.cli.evaluate.stills import StillsOptions, run_stills_command
    from videocrafter.cli.evaluate.videos import VideoOptions, is_model, run_video_command

    with bad_input():
        chosen = protocol or (_EXAM if is_model(what) else _DEFAULT)
        given: dict[str, object] = {"--reference": reference, "--against": against, "--clip": clip}
        given |= {"--weights": weights, "--sd-images": sd_images, "--image-tower": image_tower}
        given |= {"--i2v": i2v, "--judge": judge, "--second-judge": second_judge, "--quick": quick or None}
        given |= {"--seed": seed, "--steps": steps, "--guidance": guidance}
        given |= {"--prompts": prompts, "--batch-size": batch_size}
        _check_options(given, chosen, what, is_model=is_model(what))
        seed, batch_size = seed or 0, 8 if batch_size is None else batch_size
        if batch_size < 1:
            raise ValueError(f"--batch-size is {batch_size}; expected at least 1")
    same: dict[str, Any] = {"output": output, "batch_size": batch_size, "steps": steps, "guidance": guidance}
    same |= {"device": device, "overwrite": overwrite}
    if chosen == _STILLS:
        run_stills_command(StillsOptions(what=what, judge=judge, num_stills=prompts, seed=seed, **same))
    elif chosen == _EXAM:
        exam: dict[str, Any] = {
            "i2v": i2v,
            "judge": judge,
            "second_judge": second_judge,
            "quick": quick,
            "seed": seed,
        }
        run_exam_command(ExamOptions(model=what, num_prompts=prompts, **exam, **same))
    else:
        run_video_command(
            VideoOptions(
                what=what,
                protocol=chosen,
                prompts=prompts,
                reference=reference,
                against=against,
                clip=clip,
                weights=weights,
                sd_images=sd_images,
                image_tower=image_tower,
                **same,
            )
        )


def _check_options(given: Mapping[str, object], protocol: str, what: str, *, is_model: bool) -> None:
    """Raise ValueError for an option that the protocol does not have, or a model where it needs one."""
    refused = _REFUSED.get(protocol, _OF_EXAM)
    for name, value in given.items():
        if value is not None and name in refused:
            raise ValueError(
                f"{name} does not apply to protocol {protocol}; leave it out, or choose another protocol"
            )
    if protocol == _STILLS:
        _check_stills_options(given, what)
    if protocol == _EXAM and not is_model:
        raise ValueError(f"{what} is not a model, but the exam generates its own videos; choose another --protocol")
    if protocol not in _REFUSED and not is_model and (given["--steps"], given["--guidance"]) != (None, None):
        raise ValueError(f"--steps and --guidance are for models; {what} is a set of videos, so leave them out")


def _check_stills_options(given: Mapping[str, object], what: str) -> None:
    """Raise ValueError for an option that has no effect on a folder of pictures."""
    from videocrafter.evaluation.exam.stills import holds_pictures

    without_effect = [name for name in _OF_MODELS if given[name] is not None]
    if without_effect and holds_pictures(Path(what)):
        names = " and ".join(without_effect)
        raise ValueError(f"options for models: {names}; {what} is a folder of pictures, so leave them out")
