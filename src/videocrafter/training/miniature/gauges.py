"""Gauges of how much a video network uses the caption: the rise of its loss if one word is wrong.

They show progress on a plateau, where samples do not. A gauge of 0 means that the word is not used at all. The gauge
of an attribute rises suddenly when the network discovers it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from torch import Tensor

from videocrafter.data.sprite_world.world import SceneScript, SpriteWorld

Loss = Callable[[Sequence[int], Sequence[str]], Tensor]
"""(indices of fixed clips, their captions) -> loss of each clip, with the same noise at every call."""

OPPOSITE_GAUGES: Mapping[str, tuple[str, ...]] = {
    "left_right": ("left", "right"),
    "up_down": ("up", "down"),
    "diagonal": ("up_left", "up_right", "down_left", "down_right"),
    "size": ("growing", "shrinking"),
}
_OPPOSITE_CLIPS = 24


def gauge_scripts(world: SpriteWorld, count: int) -> list[SceneScript]:
    """Return the fixed clips: `count` of any kind, then up to as many for each group of opposites."""
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
    """Return the names of the metrics of `wrong_word_gauges`.

    A small world without a wrong value of an attribute has no gauge of it.

    Args:
        world, count: as for `gauge_scripts`.
        scripts: result of `gauge_scripts`.
    """
    return ["loss", *(f"gauge_{name}" for name in _wrong_captions(world, scripts, count))]


def wrong_word_gauges(world: SpriteWorld, scripts: Sequence[SceneScript], count: int, loss: Loss) -> dict[str, float]:
    """Return the mean loss, and for each attribute its rise in percent if the caption has that attribute wrong.

    Args:
        world, count: as for `gauge_scripts`.
        scripts: result of `gauge_scripts`.
        loss: the network's loss on these clips.
    """
    right = loss(range(len(scripts)), [script.caption for script in scripts])
    scores = {"loss": float(right[:count].mean())}
    for name, captions in _wrong_captions(world, scripts, count).items():
        rise = loss(list(captions), list(captions.values())).mean() / right[list(captions)].mean() - 1
        scores[f"gauge_{name}"] = 100 * float(rise)
    return scores


def _wrong_captions(world: SpriteWorld, scripts: Sequence[SceneScript], count: int) -> dict[str, dict[int, str]]:
    """Return for each gauge the indices of its clips, with captions that have the attribute wrong."""
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
    """Return the rise of the loss in percent if each clip is given another clip's image.

    Args:
        count: number of clips.
        loss: (index of the clip whose image each clip is given) -> loss of each clip, with the same noise at every
            call and captions that do not describe the content of the image.
    """
    own = list(range(count))
    return 100 * float(loss(own[1:] + own[:1]).mean() / loss(own).mean() - 1)
