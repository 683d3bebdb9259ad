"""How much of the caption a video network uses: its loss with one word wrong, against its loss with the right one.

Samples do not show what happens while a network is on a plateau; this does. A gauge of 0 means that the word is
not used at all; each attribute's gauge rises suddenly when the network discovers it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from torch import Tensor

from videocrafter.data.sprite_world.world import SceneScript, SpriteWorld

Loss = Callable[[Sequence[int], Sequence[str]], Tensor]
"""(which of the fixed clips, the captions to use for them) -> loss of each, with the same noise at every call."""

OPPOSITE_GAUGES: Mapping[str, tuple[str, ...]] = {
    "left_right": ("left", "right"),
    "up_down": ("up", "down"),
    "diagonal": ("up_left", "up_right", "down_left", "down_right"),
    "size": ("growing", "shrinking"),
}
_OPPOSITE_CLIPS = 24


def gauge_scripts(world: SpriteWorld, count: int) -> list[SceneScript]:
    """The fixed clips that are gauged: `count` of any kind, then up to as many for each pair of opposites."""
    scripts = [world.script(index) for index in range(count)]
    for motions in OPPOSITE_GAUGES.values():
        index, found = count, 0
        while set(motions) & set(world.motions) and found < min(_OPPOSITE_CLIPS, count):
            script = world.script(index)
            if script.motion in motions:
                scripts.append(script)
                found += 1
            index += 1
    return scripts


def gauge_names(world: SpriteWorld, scripts: Sequence[SceneScript], count: int) -> list[str]:
    """What `wrong_word_gauges` measures: an attribute that a small world cannot get wrong has no gauge.

    Args:
        world, scripts, count: as in and from `gauge_scripts`.
    """
    return ["loss", *(f"gauge_{name}" for name in _wrong_captions(world, scripts, count))]


def wrong_word_gauges(world: SpriteWorld, scripts: Sequence[SceneScript], count: int, loss: Loss) -> dict[str, float]:
    """The mean loss, and for each attribute its rise in percent when the caption gets that attribute wrong.

    Args:
        world, scripts, count: as in and from `gauge_scripts`.
        loss: the network's loss on these clips.
    """
    right = loss(range(len(scripts)), [script.caption for script in scripts])
    scores = {"loss": float(right[:count].mean())}
    for name, captions in _wrong_captions(world, scripts, count).items():
        rise = loss(list(captions), list(captions.values())).mean() / right[list(captions)].mean() - 1
        scores[f"gauge_{name}"] = 100 * float(rise)
    return scores


def _wrong_captions(world: SpriteWorld, scripts: Sequence[SceneScript], count: int) -> dict[str, dict[int, str]]:
    """For each gauge that there is: which clips, and their captions with that attribute wrong."""
    rng = np.random.default_rng(0)
    groups = {attribute: (attribute, range(count)) for attribute in ("subject", "motion", "scene")}
    for name, motions in OPPOSITE_GAUGES.items():
        of_pair = [index for index, script in enumerate(scripts) if script.motion in motions]
        groups[name] = ("opposite", of_pair)  # type: ignore[assignment]
    found: dict[str, dict[int, str]] = {}
    for name, (attribute, indices) in groups.items():
        wrong = {i: world.counterfactual(scripts[i], attribute, rng) for i in indices}  # type: ignore[arg-type]
        found[name] = {i: caption for i, caption in wrong.items() if caption is not None}
    return {name: captions for name, captions in found.items() if captions}


def wrong_image_gauge(count: int, loss: Callable[[Sequence[int]], Tensor]) -> float:
    """The rise of the loss in percent when each clip is given another one's image.

    Args:
        count: how many clips.
        loss: (whose image each clip is given) -> loss of each, with the same noise at every call and captions that
            leave to the image what it shows.
    """
    own = list(range(count))
    return 100 * float(loss(own[1:] + own[:1]).mean() / loss(own).mean() - 1)
