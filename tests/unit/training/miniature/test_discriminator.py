import torch

from videocrafter.training.miniature.discriminator import PatchDiscriminator, adversarial_losses


def test_each_loss_reaches_only_its_own_network() -> None:
    discriminator = PatchDiscriminator(8)
    real, reconstruction = torch.rand(2, 3, 32, 32), torch.rand(2, 3, 32, 32, requires_grad=True)
    fooling, telling = adversarial_losses(discriminator, reconstruction, real)
    fooling.backward()
    assert reconstruction.grad is not None
    assert all(parameter.grad is None for parameter in discriminator.parameters())
    reconstruction.grad = None
    telling.backward()
    assert reconstruction.grad is None
    assert all(parameter.grad is not None for parameter in discriminator.parameters())


def test_it_learns_to_tell_blurred_frames_from_sharp_ones() -> None:
    torch.manual_seed(0)
    discriminator = PatchDiscriminator(8)
    optimizer = torch.optim.AdamW(discriminator.parameters(), lr=2e-3)
    for _ in range(40):
        real = torch.randn(8, 3, 32, 32)
        _, telling = adversarial_losses(discriminator, torch.nn.functional.avg_pool2d(real, 3, 1, 1), real)
        optimizer.zero_grad()
        telling.backward()
        optimizer.step()
    real = torch.randn(8, 3, 32, 32)
    assert discriminator(real).shape == (8, 1, 4, 4)
    blurred = discriminator(torch.nn.functional.avg_pool2d(real, 3, 1, 1))
    assert float(discriminator(real).mean()) > 0.5 > -0.5 > float(blurred.mean())
