"""`videocrafter plan`: memory, operations and time of a training run, computed before it starts."""

from __future__ import annotations

from typing import Annotated

import typer

from videocrafter.cli.errors import bad_input
from videocrafter.cli.planned_device import parse_device, parse_flops
from videocrafter.cli.train.recipe_choice import (
    SettingsOption,
    StagesOption,
    StartOption,
    choose_recipe,
    naming_options,
)


def plan_command(
    recipe: Annotated[str, typer.Argument(metavar="RECIPE", help="Name of the recipe, such as t2v-256 or lora.")],
    device: Annotated[
        str | None,
        typer.Option(help="Memory of each GPU, such as 24GB; without a GPU, cpu:16GB. Default: this computer's."),
    ] = None,
    gpus: Annotated[int, typer.Option(help="Number of GPUs (or processes) that train together.")] = 1,
    init: StartOption = None,
    set_: SettingsOption = None,
    stages: StagesOption = None,
    flops: Annotated[
        str | None,
        typer.Option(
            help="Peak FLOP/s of each device, from its data sheet, such as 989T. Default: 312T, an A100 in bf16."
        ),
    ] = None,
    utilisation: Annotated[float, typer.Option(help="Share of the peak FLOP/s that training achieves.")] = 0.4,
    suggestions: Annotated[
        bool,
        typer.Option(
            "--suggestions/--no-suggestions", metavar="", help="Search for settings that fit if the recipe does not."
        ),
    ] = True,
    json_: Annotated[bool, typer.Option("--json", metavar="", help="Print JSON, with memory in bytes.")] = False,
) -> None:
    """Compute the memory, operations and time of a recipe, and suggest settings that fit. Nothing is trained."""
    with bad_input():
        if gpus < 1:
            raise ValueError(f"--gpus is {gpus}; give 1 or more")
        if not 0 < utilisation <= 1:
            raise ValueError(f"--utilisation is {utilisation:g}; give a share above 0, at most 1")
        peak = None if flops is None else parse_flops(flops)
        config = choose_recipe(recipe, set_, init=init, stages=stages)
        machine = parse_device(device, gpus)
    from videocrafter.cli.quiet_libraries import silence_libraries

    silence_libraries()
    from videocrafter.cli.train.plan_report import Speed, as_json, show
    from videocrafter.training.planning.plan import Planner
    from videocrafter.training.planning.suggestions import advise

    planner = Planner()
    with bad_input(), naming_options():
        plan = planner.plan(config, machine)
    wanted = suggestions and not all(plan.fits(stage) for stage in plan.stages)
    if wanted:
        typer.echo("It does not fit; searching for settings that do ...", err=True)
    advice = advise(planner, config, plan) if wanted else []
    speed = Speed(peak=peak, utilisation=utilisation)
    if json_:
        typer.echo(as_json(plan, advice, speed))
    else:
        show(plan, advice, speed)
