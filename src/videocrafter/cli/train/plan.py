"""`videocrafter plan`: what a training run needs, said before it begins."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated

import typer

from videocrafter.cli.errors import bad_input
from videocrafter.cli.train.recipe_choice import SettingsOption, StartOption, choose_recipe

if TYPE_CHECKING:
    from videocrafter.training.planning.plan import Machine

_UNITS = {"": 2**30, "m": 2**20, "g": 2**30, "t": 2**40}
_POWERS = {"": 1.0, "g": 1e9, "t": 1e12, "p": 1e15}


def register(app: typer.Typer) -> None:
    """Add the command to an app."""
    app.command("plan")(plan_command)


def plan_command(
    recipe: Annotated[str, typer.Argument(help="Name of the recipe, such as t2v-256 or lora.")],
    device: Annotated[
        str | None,
        typer.Option(help="Memory of each GPU: 24GB. Without GPUs: cpu:16GB. Default: what this computer has."),
    ] = None,
    gpus: Annotated[int, typer.Option(help="GPUs (or processes) that train together.")] = 1,
    init: StartOption = None,
    set_: SettingsOption = None,
    flops: Annotated[
        str | None,
        typer.Option(help="FLOP/s of each device by its data sheet: 989T. Default: 312T, an A100 in bf16 (docs)."),
    ] = None,
    utilisation: Annotated[float, typer.Option(help="Share of these that training reaches.")] = 0.4,
    suggestions: Annotated[
        bool, typer.Option("--suggestions/--no-suggestions", help="Look for settings that fit where it does not.")
    ] = True,
    json_: Annotated[bool, typer.Option("--json", help="Print JSON, with every number in bytes.")] = False,
) -> None:
    """Say what a recipe needs: memory, operations, days; and what would make it fit. Nothing is loaded or trained."""
    with bad_input():
        if gpus < 1:
            raise ValueError(f"--gpus is {gpus}; give 1 or more")
        if not 0 < utilisation <= 1:
            raise ValueError(f"--utilisation is {utilisation:g}; give a share above 0, 1 at most")
        peak = None if flops is None else parse_flops(flops)
        config = choose_recipe(recipe, set_, init=init)
        machine = parse_device(device, gpus)
    from videocrafter.cli.quiet_libraries import silence_libraries

    silence_libraries()
    from videocrafter.cli.train.plan_report import Speed, as_json, show
    from videocrafter.training.planning.plan import Planner
    from videocrafter.training.planning.suggestions import advise

    planner = Planner()
    with bad_input():
        plan = planner.plan(config, machine)
    wanted = suggestions and not all(plan.fits(stage) for stage in plan.stages)
    if wanted:
        typer.echo("It does not fit; looking for settings that do ...", err=True)
    advice = advise(planner, config, plan) if wanted else []
    speed = Speed(peak=peak, utilisation=utilisation)
    if json_:
        typer.echo(as_json(plan, advice, speed))
    else:
        show(plan, advice, speed)


def parse_device(text: str | None, count: int) -> Machine:
    """The machine that `--device` describes.

    Args:
        text: "24GB", "80 GiB", "cpu:16GB"; None is this computer. As with memory chips, 1 GB is 2**30 bytes.

    Raises:
        ValueError: it is no such text, or leaves nothing to train in.
    """
    from videocrafter.training.planning.plan import Machine

    if text is None:
        return this_machine(count)
    kind, _, size = text.strip().rpartition(":")
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([mgt]?)(?:i?b)?", size.strip().lower())
    if match is None or kind.lower() not in ("", "gpu", "cuda", "cpu"):
        raise ValueError(f"--device {text!r} is no amount of memory; write it as 24GB for a GPU, or as cpu:16GB")
    memory = int(float(match[1]) * _UNITS[match[2]])
    machine = Machine(kind="cpu" if kind.lower() == "cpu" else "gpu", memory=memory, count=count)
    if machine.usable <= 0:
        reserved = (machine.memory - machine.usable) / 2**30
        raise ValueError(f"--device {text!r} is less than the {reserved:g} GB that libraries and driver take")
    return machine


def this_machine(count: int) -> Machine:
    """What this computer has: a GPU's memory, or main memory.

    Raises:
        ValueError: the system does not tell.
    """
    import torch

    from videocrafter.pipelines.generation_memory import available_memory
    from videocrafter.training.planning.plan import Machine

    if torch.cuda.is_available():
        _, memory = torch.cuda.mem_get_info()
        return Machine(kind="gpu", memory=memory, count=count)
    available = available_memory(torch.device("cpu"))
    if available is None:
        raise ValueError("this system does not say how much memory it has; say it: --device cpu:16GB")
    return Machine(kind="cpu", memory=available // count, count=count)


def parse_flops(text: str) -> float:
    """Operations per second of a text such as "312T", "19.5 TFLOP/s" or "1.2e14".

    Raises:
        ValueError: it is none, or is not above 0.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?(?:e\d+)?)\s*([gtp]?)(?:flops?(?:/s)?)?", text.strip().lower())
    if match is None or float(match[1]) <= 0:
        raise ValueError(f"--flops {text!r} is no number of operations per second; write it as 312T or 9.9e14")
    return float(match[1]) * _POWERS[match[2]]
