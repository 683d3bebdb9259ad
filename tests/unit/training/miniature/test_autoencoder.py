from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL
from torch import Tensor

from tests.tiny_parts import AUTOENCODER, autoencoder_task, build
from videocrafter.data.sprite_world.world import SceneScript, is_held_out
from videocrafter.models.autoencoder import encode_video
from videocrafter.training.miniature.autoencoder import AutoencoderTask
from videocrafter.training.saving.state import trained_parameters


def shown_scripts(task: AutoencoderTask, monkeypatch: pytest.MonkeyPatch) -> list[SceneScript]:
    """Return a list that collects the scripts of all frames that the task renders for training."""
    shown: list[SceneScript] = []
    for world in task.worlds.values():
        render = world.render

        def noting(scripts: Sequence[SceneScript], render=render) -> Tensor:
            shown.extend(scripts)
            return render(scripts)

        monkeypatch.setattr(world, "render", noting)
    return shown


def test_a_batch_is_a_function_of_seed_stage_and_step() -> None:
    task = autoencoder_task()
    task.batch(7)
    assert torch.equal(task.batch(3, 1), autoencoder_task().batch(3, 1))
    others = [task.batch(4, 1), task.batch(3), autoencoder_task(seed=1).batch(3, 1)]
    others.append(build(AUTOENCODER, stage_index=1).batch(3, 1))
    assert not any(torch.equal(task.batch(3, 1), other) for other in others)


def test_every_frame_is_new_and_none_shows_a_held_out_combination(monkeypatch: pytest.MonkeyPatch) -> None:
    task = autoencoder_task(batch_size=32)
    shown = shown_scripts(task, monkeypatch)
    for step in range(4):
        for micro_step in range(2):
            task.batch(step, micro_step)
    assert len(set(shown)) == len(shown) == 4 * 2 * 32
    assert not any(is_held_out(one.subject, one.motion, one.scene) for one in shown)


def test_sizes_take_turns() -> None:
    task = autoencoder_task(sizes=(16, 16, 32))
    assert [task.batch(step).shape[-1] for step in range(4)] == [16, 16, 32, 16]
    assert task.num_samples(task.batch(0)) == 4


def test_every_weight_learns_and_gets_a_gradient() -> None:
    task = autoencoder_task()
    task.loss(task.batch(0), torch.Generator().manual_seed(0))[0].backward()
    parameters = trained_parameters(task)
    assert len(parameters) == len(list(task.vae.parameters()))
    assert [name for name, one in parameters.items() if one.grad is None] == []


def test_each_term_of_the_loss_counts_with_its_weight() -> None:
    batch = autoencoder_task().batch(0)

    def loss(**weights: float) -> tuple[float, dict[str, float]]:
        total, metrics = autoencoder_task(**weights).loss(batch, torch.Generator().manual_seed(0))
        return float(total.detach()), {name: float(value) for name, value in metrics.items()}

    plain, metrics = loss(edge_weight=0.0, kl_weight=0.0)
    assert loss(edge_weight=0.0, kl_weight=2.0)[0] - plain == pytest.approx(2 * metrics["kl"], rel=1e-4)
    edges = loss(edge_weight=1.0, kl_weight=0.0)[0] - plain
    assert edges > 0.01
    assert loss(edge_weight=3.0, kl_weight=0.0)[0] - plain == pytest.approx(3 * edges, rel=1e-4)
    # The rest is the mean absolute error and twice the mean squared one.
    absolute = plain - 2 * metrics["mse"]
    assert 0 < absolute <= metrics["mse"] ** 0.5


def test_edges_are_counted_whichever_way_they_run() -> None:
    from videocrafter.training.miniature.autoencoder import _edge_error

    frames = torch.zeros(1, 3, 8, 8)
    upright = frames.clone()
    upright[..., 4:] = 1
    assert float(_edge_error(frames + 0.5, frames)) == 0, "a wrong brightness is not a wrong edge"
    assert float(_edge_error(upright, frames)) == pytest.approx(1 / 7)
    assert float(_edge_error(upright.transpose(2, 3), frames)) == pytest.approx(1 / 7)


def test_a_few_steps_lower_the_loss_of_a_batch() -> None:
    task = autoencoder_task()
    batch = task.batch(0)
    optimizer = torch.optim.Adam(task.trainable_parameters(), lr=3e-3)
    losses = []
    for _ in range(15):
        loss, _ = task.loss(batch, torch.Generator().manual_seed(0))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.8 * losses[0]


def test_validation_is_the_peak_signal_to_noise_ratio_at_each_size(monkeypatch: pytest.MonkeyPatch) -> None:
    task = autoencoder_task(sizes=(16, 32))
    monkeypatch.setattr(task, "_reconstruct", lambda frames: frames + 0.2)
    scores = task.validate()
    assert [scores["psnr_16"], scores["psnr_32"]] == pytest.approx([20.0, 20.0], abs=1e-3)
    assert task.config.validation_metrics() == ["psnr_16", "edges_16", "psnr_32", "edges_32"]


def test_validation_looks_at_the_same_frames_in_every_run_and_none_of_training(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    task, other = autoencoder_task(), autoencoder_task(seed=1)
    other.vae.load_state_dict(task.vae.state_dict())
    assert task.validate() == other.validate()
    looked_at: list[Tensor] = []
    monkeypatch.setattr(task, "_reconstruct", lambda frames: looked_at.append(frames) or frames)
    task.validate()
    trained_on = torch.cat([task.batch(step) for step in range(3)])
    distances = (looked_at[0] - trained_on).abs().amax(dim=(2, 3, 4))
    assert float(distances.min()) > 0.1


def test_the_saved_autoencoder_gives_latents_of_unit_variance(tmp_path: Path) -> None:
    task = autoencoder_task(num_validation=32)
    task.save_pipeline(tmp_path)
    vae = AutoencoderKL.from_pretrained(tmp_path, subfolder="vae")
    assert vae.config.scaling_factor != 1.0
    # Frames on which the factor was not measured.
    frames = torch.cat([task.batch(step) for step in range(16)])[:, None]
    with torch.no_grad():
        assert float(encode_video(vae, frames, sample=False).std()) == pytest.approx(1.0, abs=0.1)
    factor = vae.config.scaling_factor
    task.save_pipeline(tmp_path)
    again = AutoencoderKL.from_pretrained(tmp_path, subfolder="vae").config.scaling_factor
    assert again == pytest.approx(factor, rel=1e-4), "the factor in use must not count twice"


def test_a_later_stage_trains_on_in_full_precision(tmp_path: Path) -> None:
    task = autoencoder_task()
    task.vae.to(torch.float16)
    task.vae.save_pretrained(tmp_path / "vae")
    later = build(replace(AUTOENCODER, edge_weight=0.5), tmp_path, stage_index=1)
    expected = task.vae.state_dict()
    for name, weight in later.vae.state_dict().items():
        assert weight.dtype == torch.float32
        assert torch.equal(weight, expected[name].float()), name


def test_sample_sheets_are_written_for_each_size(tmp_path: Path) -> None:
    autoencoder_task(sizes=(16, 32)).write_samples(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"reconstructions-16.png", "reconstructions-32.png"}


def test_crops_are_parts_of_the_frames_at_places_that_differ() -> None:
    whole, task = autoencoder_task(sizes=(32,)), autoencoder_task(sizes=(32,), crop=16)
    frames, crops = whole.batch(5), task.batch(5)
    assert crops.shape == (4, 3, 16, 16)
    assert torch.equal(crops, autoencoder_task(sizes=(32,), crop=16).batch(5))
    places = []
    for frame, crop in zip(frames, crops, strict=True):
        windows = frame.unfold(1, 16, 1).unfold(2, 16, 1).permute(1, 2, 0, 3, 4)
        places.append((windows == crop).all(dim=(2, 3, 4)).nonzero()[0].tolist())
    assert len({tuple(place) for place in places}) > 1
    # A size no larger than the crop is trained on whole.
    assert torch.equal(autoencoder_task(crop=16).batch(5), autoencoder_task().batch(5))


def test_a_frozen_encoder_keeps_latents_while_the_decoder_learns() -> None:
    task = autoencoder_task(train_encoder=False)
    frames = task.batch(0)[:, None]
    before = encode_video(task.vae, frames, sample=False)
    optimizer = torch.optim.SGD(task.trainable_parameters(), lr=0.1)
    task.loss(task.batch(0), torch.Generator().manual_seed(0))[0].backward()
    decoder = [parameter.clone() for parameter in task.vae.decoder.parameters()]
    optimizer.step()
    assert torch.equal(encode_video(task.vae, frames, sample=False), before)
    assert any(not torch.equal(old, new) for old, new in zip(decoder, task.vae.decoder.parameters(), strict=True))


def test_noise_on_latents_raises_the_error_and_comes_from_the_generator() -> None:
    def error(latent_noise: float, seed: int) -> float:
        task = autoencoder_task(latent_noise=latent_noise)
        return float(task.loss(task.batch(0), torch.Generator().manual_seed(seed))[1]["mse"])

    assert error(1.0, 0) == error(1.0, 0) != error(1.0, 1)
    assert error(3.0, 0) > error(0.0, 0)


def test_the_adversarial_and_the_perceptual_term_are_added_with_their_weights() -> None:
    plain = autoencoder_task(sizes=(32,))
    task = autoencoder_task(sizes=(32,), perceptual_weight=0.5, adversarial_weight=0.25)
    batch = plain.batch(0)
    total, metrics = task.loss(batch, torch.Generator().manual_seed(0))
    alone = plain.loss(batch, torch.Generator().manual_seed(0))[0]
    added = 0.5 * metrics["perceptual"] + 0.25 * metrics["fooling"] + metrics["telling"]
    assert float((total - alone).detach()) == pytest.approx(float(added), rel=1e-4)
    assert set(task.modules()) == {"vae", "discriminator"}
    assert set(plain.modules()) == {"vae"}
    total.backward()
    assert [name for name, one in trained_parameters(task).items() if one.grad is None] == []


def test_the_edge_energy_of_a_blurring_autoencoder_is_below_one(monkeypatch: pytest.MonkeyPatch) -> None:
    task = autoencoder_task()
    monkeypatch.setattr(task, "_reconstruct", lambda frames: frames)
    assert task.validate()["edges_16"] == 1
    monkeypatch.setattr(task, "_reconstruct", lambda frames: frames * 0.5)
    assert task.validate()["edges_16"] == pytest.approx(0.5)
    assert set(task.validate()) == set(task.config.validation_metrics())
