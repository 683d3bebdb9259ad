import pytest
from torch import nn

from tests.tiny_models import tiny_pipeline
from videocrafter.training.video.phases import choose_trained


@pytest.mark.parametrize(
    ("phase", "mappings", "others", "projector"),
    [
        ("text_to_video", {"to_k", "to_v", "to_k_image", "to_v_image"}, True, False),
        ("image_alignment", set(), False, True),
        ("image_mapping", {"to_k_image", "to_v_image"}, False, True),
        ("image_to_video", set(), True, False),
    ],
)
def test_what_learns_in_each_phase(phase: str, mappings: set[str], others: bool, projector: bool) -> None:
    pipeline = tiny_pipeline(image=True)
    network = pipeline.unet
    # The result must not depend on the phase before.
    for index, parameter in enumerate(network.parameters()):
        parameter.requires_grad_(index % 2 == 0)
    choose_trained(network, pipeline.image_projector, phase)
    seen = set()
    for name, parameter in network.named_parameters():
        _, is_mapping, part = name.partition("cross_attention.")
        mapping = part.partition(".")[0]
        if is_mapping and mapping in ("to_k", "to_v", "to_k_image", "to_v_image"):
            seen.add(mapping)
            assert parameter.requires_grad == (mapping in mappings), name
        else:
            assert parameter.requires_grad == others, name
    assert len(seen) == 4
    assert {parameter.requires_grad for parameter in pipeline.image_projector.parameters()} == {projector}


def test_a_network_without_an_image_branch_needs_no_projector() -> None:
    network: nn.Module = tiny_pipeline(image=False).unet
    choose_trained(network, None, "text_to_video")
    assert all(parameter.requires_grad for parameter in network.parameters())


def test_what_only_clips_use_learns_alone() -> None:
    network = tiny_pipeline(image=True).unet
    choose_trained(network, None, "temporal_only")
    learning = {name for name, parameter in network.named_parameters() if parameter.requires_grad}
    assert {name for name in learning if "temporal" not in name} == {
        name for name, _ in network.named_parameters() if name.startswith(("fps_embedding", "frame_text_embedding"))
    }
    assert all(name in learning for name, _ in network.named_parameters() if "temporal" in name)
