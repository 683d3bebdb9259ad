"""`videocrafter plan`: what a training run (`plan RECIPE`) or a generation (`plan generate MODEL`) needs."""

from __future__ import annotations

import typer
from typer.core import TyperGroup

from videocrafter.cli.generate.plan import plan_generate
from videocrafter.cli.train.plan import plan_command

_TRAINING = "recipe"


class _PlanGroup(TyperGroup):
    """Takes arguments that begin with no command as those of a training plan."""

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:  # type: ignore[override]
        if args and args[0] not in self.commands and args[0] not in ctx.help_option_names:
            args = [_TRAINING, *args]
        return super().parse_args(ctx, args)


plan = typer.Typer(
    cls=_PlanGroup,
    no_args_is_help=True,
    help="Compute what a training run or a generation needs: `plan RECIPE` or `plan generate MODEL`.",
)
plan.command(_TRAINING)(plan_command)
plan.command("generate")(plan_generate)


def register(app: typer.Typer) -> None:
    """Add the group of commands to an app."""
    app.add_typer(plan, name="plan")
