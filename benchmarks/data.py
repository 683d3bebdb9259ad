"""How fast the sprite world is made: scripts, and frames of clips and of images at 32 and 64 pixels.

    python -m benchmarks.data

The world has to be faster than the training that it feeds; see `benchmarks.training` for that.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from benchmarks.report import Report, add_report_arguments, available_cores, machine, positive, publish
from benchmarks.turns import COLUMNS, Readings, compare, take_turns, torch_threads

if TYPE_CHECKING:
    from videocrafter.data.sprite_world.world import SpriteWorld

SIZES = (32, 64)
# As the training tasks render them: a block at a time.
BLOCK = 8
SCRIPTS_PER_CLIP = 20


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="benchmarks.data", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clips", type=positive, default=64, help="clips per turn, 8 frames each (%(default)s)")
    parser.add_argument("--threads", type=positive, default=available_cores(), help="default: all (%(default)s)")
    add_report_arguments(parser, repeats=9)
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    given = arguments(argv)
    where = machine()
    from videocrafter.data.sprite_world.world import SpriteWorld, SpriteWorldConfig

    clips = BLOCK if given.smoke else given.clips
    worlds = {size: SpriteWorld(SpriteWorldConfig(height=size, width=size)) for size in SIZES}
    variants: dict[str, Callable[[], Readings]] = {
        f"{what}, {size} px": partial(frames_per_second, worlds[size], clips, images=what == "images")
        for what in ("clips", "images")
        for size in reversed(SIZES)
    }
    variants["scripts"] = partial(scripts_per_second, worlds[SIZES[0]], clips * SCRIPTS_PER_CLIP)
    with torch_threads(given.threads):
        for measure in variants.values():
            measure()
        turns = take_turns(variants, given.repeats)
    baseline = next(iter(variants))
    publish(
        Report(
            name="data",
            title="The sprite world",
            machine=where,
            settings={"clips per turn": clips, "threads": given.threads, "rounds": given.repeats},
            columns=COLUMNS,
            rows=compare(turns, baseline),
            notes=[f"ratios are to {baseline!r}; higher is faster"],
            turns=turns,
        ),
        given,
    )


def frames_per_second(world: SpriteWorld, count: int, *, images: bool) -> Readings:
    """Render `count` clips, or as many images as they have frames, in blocks; scripts are made beforehand."""
    make = world.image_script if images else world.script
    # Blocks of images hold as many frames as blocks of clips, so that only their content differs.
    per_block = BLOCK * world.config.num_frames if images else BLOCK
    blocks = [[make(block * per_block + i) for i in range(per_block)] for block in range(max(1, count // BLOCK))]
    frames = 0
    start = time.perf_counter()
    for block in blocks:
        rendered = world.render(block)
        frames += rendered.shape[0] * rendered.shape[1]
    return {"frames/s": frames / (time.perf_counter() - start)}


def scripts_per_second(world: SpriteWorld, count: int) -> Readings:
    """Decide what happens in `count` clips, captions included."""
    start = time.perf_counter()
    for index in range(count):
        world.script(index)
    return {"scripts/s": count / (time.perf_counter() - start)}


if __name__ == "__main__":
    main()
