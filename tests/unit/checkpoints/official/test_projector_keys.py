import pytest
import torch

from tests.unit.checkpoints.official.official_shapes import part_shapes
from videocrafter.checkpoints.official.projector_keys import (
    PROJECTOR_PREFIX,
    RELEASED_PROJECTOR,
    projector_config_from_shapes,
    projector_keys,
)
from videocrafter.models.image_projector import ImageProjector

SMALL = {
    "dim": 32,
    "depth": 2,
    "dim_head": 64,
    "heads": 3,
    "num_queries": 5,
    "embedding_dim": 20,
    "output_dim": 12,
    "ff_mult": 2,
}


def shapes_of(config: dict[str, int]) -> dict[str, tuple[int, ...]]:
    with torch.device("meta"):
        network = ImageProjector(**config)
    return part_shapes(network, projector_keys(config))


@pytest.mark.parametrize("config", [SMALL, dict(RELEASED_PROJECTOR)], ids=["small", "released"])
def test_every_parameter_has_one_rule_and_shapes_give_the_config_back(config: dict[str, int]):
    assert projector_config_from_shapes(shapes_of(config)) == config


def test_names_are_the_official_ones():
    assert {(rule.official, *rule.own) for rule in projector_keys(SMALL)} == {
        (f"{PROJECTOR_PREFIX}{name}", name) for name in ImageProjector(**SMALL).state_dict()
    }


def test_another_width_of_heads_has_to_be_named():
    shapes = shapes_of({**SMALL, "dim_head": 16})
    assert projector_config_from_shapes(shapes, 16) == {**SMALL, "dim_head": 16}
    with pytest.raises(ValueError, match=r"attention has width 48 .* multiples of 64 and 32 .*params\.dim_head"):
        projector_config_from_shapes(shapes)


def test_the_projector_of_few_tokens_is_not_this_one():
    with pytest.raises(ValueError, match=r"lacks 'image_proj_model\.latents'"):
        projector_config_from_shapes({f"{PROJECTOR_PREFIX}proj.weight": (4096, 1024)})
