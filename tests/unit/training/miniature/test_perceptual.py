import torch

from videocrafter.data.sprite_world.world import SpriteWorld, SpriteWorldConfig
from videocrafter.training.miniature.perceptual import PerceptualDistance


def test_blur_is_farther_than_a_change_of_brightness_of_the_same_squared_error() -> None:
    world = SpriteWorld(SpriteWorldConfig(height=64, width=64))
    frames = world.render([world.image_script(index) for index in range(8)])[:, 0]
    blurred = torch.nn.functional.avg_pool2d(frames, 5, stride=1, padding=2, count_include_pad=False)
    brighter = frames + (blurred - frames).square().mean().sqrt()
    distance = PerceptualDistance()
    assert float(distance(frames, frames)) == 0
    assert float(distance(blurred, frames)) > 3 * float(distance(brighter, frames)) > 0


def test_its_gradient_reaches_the_first_frames_only() -> None:
    frames, targets = (torch.rand(1, 3, 32, 32, requires_grad=True) for _ in range(2))
    PerceptualDistance()(frames, targets.detach()).backward()
    assert frames.grad is not None
    assert float(frames.grad.abs().sum()) > 0
