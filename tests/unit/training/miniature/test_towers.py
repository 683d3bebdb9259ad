from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import CLIPTextModel, CLIPVisionModel, PreTrainedTokenizerFast

from tests.tiny_parts import TOWERS, WIDTH, build, towers_task
from videocrafter.data.sprite_world.world import (
    MOTIONS,
    SUBJECTS,
    SceneScript,
    SpriteWorld,
    SpriteWorldConfig,
    is_held_out,
)
from videocrafter.models.text_encoder import encode_text
from videocrafter.models.tokenizer import unknown_words
from videocrafter.training.miniature.towers import ContrastiveTask, contrasting_group
from videocrafter.training.saving.state import trained_parameters

KINDS = ("motion", "subject", "scene", "speed")


@pytest.fixture(scope="module")
def task() -> ContrastiveTask:
    return towers_task()


@pytest.fixture(scope="module")
def world() -> SpriteWorld:
    return SpriteWorld(SpriteWorldConfig(height=16, width=16, seed=5))


def groups(
    world: SpriteWorld, kind: str | None = None, images: bool = False, size: int = 4
) -> list[list[SceneScript]]:
    rng = np.random.default_rng(0)
    bases = [world.image_script(index) if images else world.script(index) for index in range(60)]
    return [contrasting_group(world, base, size, rng, kind) for base in bases]


def differing(one: SceneScript, other: SceneScript) -> set[str]:
    return {field.name for field in fields(one) if getattr(one, field.name) != getattr(other, field.name)}


def test_a_batch_is_a_function_of_seed_stage_and_step(task: ContrastiveTask) -> None:
    task.batch(7)
    batch, again = task.batch(3, 1), towers_task().batch(3, 1)
    assert torch.equal(batch.pixels, again.pixels)
    assert batch.captions == again.captions
    assert torch.equal(batch.fps, again.fps)
    others = [task.batch(4, 1), task.batch(3), towers_task(seed=1).batch(3, 1)]
    others.append(build(TOWERS, stage_index=1).batch(3, 1))
    assert not any(batch.captions == other.captions for other in others)


@pytest.mark.parametrize("kind", KINDS)
def test_the_clips_of_a_group_differ_in_one_attribute(world: SpriteWorld, kind: str) -> None:
    for group in groups(world, kind):
        base, *others = group
        wanted = "motion" if kind == "speed" and base.motion == "still" else kind
        assert 1 <= len(others) <= 3
        assert len({script.caption for script in group}) == len(group)
        for other in others:
            allowed = {wanted, "caption"}
            # Captions of still clips name no speed.
            if other.motion == "still":
                assert other.speed == "medium"
                allowed.add("speed")
            assert {wanted, "caption"} <= differing(base, other) <= allowed


def test_a_caption_of_a_group_says_what_its_clip_shows(world: SpriteWorld) -> None:
    for group in groups(world, "subject"):
        for script in group:
            assert [subject for subject in SUBJECTS if subject in script.caption.split()] == [script.subject]


@pytest.mark.parametrize("images", [False, True])
def test_no_group_shows_a_held_out_combination(world: SpriteWorld, images: bool) -> None:
    drawn = [script for group in groups(world, images=images) for script in group]
    assert len(drawn) > 150
    assert not any(is_held_out(one.subject, one.motion, one.scene) for one in drawn)


def test_images_differ_in_subject_or_scene_and_their_captions_say_nothing_of_motion(world: SpriteWorld) -> None:
    kinds = set()
    for group in groups(world, images=True):
        for other in group[1:]:
            kinds |= differing(group[0], other)
            assert other.image_frame == group[0].image_frame
            assert not {"moving", "flying", "growing", "spinning"} & set(other.caption.split())
    assert kinds == {"subject", "scene", "caption"}


def test_motion_is_contrasted_most(world: SpriteWorld) -> None:
    kinds = [kind for group in groups(world) for kind in KINDS if kind in differing(group[0], group[1])]
    counts = {kind: kinds.count(kind) for kind in KINDS}
    assert counts["motion"] > max(counts["subject"], counts["scene"]) > 0
    assert counts["speed"] > 0


def test_an_attribute_with_few_values_makes_a_small_group() -> None:
    world = SpriteWorld(SpriteWorldConfig(height=16, width=16, motions=MOTIONS[:2]))
    assert {len(group) for group in groups(world, "motion")} <= {1, 2}
    assert max(len(group) for group in groups(world, "speed")) == 3


def test_batches_are_clips_and_now_and_then_images() -> None:
    task = towers_task(num_groups=1, group_size=1, image_share=0.3)
    lengths = [task.batch(step).pixels.shape[1] for step in range(150)]
    assert set(lengths) == {1, 2}
    assert 0.2 < lengths.count(1) / 150 < 0.4
    pixels = towers_task(image_share=0.0).batch(0).pixels
    assert pixels.shape[1:] == (2, 3, 16, 16)


def test_a_clip_is_watched_from_its_first_frame_to_its_last() -> None:
    task = towers_task(image_share=0.0, num_groups=1, group_size=1)
    whole = task.world.render([task.world.script(2 * 64)])
    assert torch.equal(task.batch(2).pixels, whole[:, [0, -1]])


def test_the_tower_knows_every_word_of_its_captions_and_has_room_for_them(task: ContrastiveTask) -> None:
    captions = [task.world.script(index).caption for index in range(400)]
    captions += [task.world.image_script(index).caption for index in range(100)]
    assert [word for caption in captions for word in unknown_words(task.tokenizer, caption)] == []
    longest = max(len(task.tokenizer(caption)["input_ids"]) for caption in captions)
    assert longest <= TOWERS.max_length


def test_a_few_steps_lower_the_loss_of_a_batch() -> None:
    task = towers_task(word_weight=0.5)
    batch = task.batch(0)
    optimizer = torch.optim.Adam(task.trainable_parameters(), lr=3e-3)
    losses = []
    for _ in range(12):
        loss, metrics = task.loss(batch, torch.Generator())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.8 * losses[0]
    assert {"contrast", "caption", "words", "retrieval"} == set(metrics)
    assert task.num_samples(batch) == len(batch.captions) == len(batch.pixels)


def test_the_loss_reaches_every_weight_that_is_to_learn() -> None:
    task = towers_task(word_weight=1.0, image_share=0.0)
    parameters = trained_parameters(task)
    task.loss(task.batch(0), torch.Generator())[0].backward()
    assert [name for name, one in parameters.items() if one.grad is None] == []
    assert not any("post_layernorm" in name for name in parameters)


def test_weights_of_the_extra_losses(task: ContrastiveTask) -> None:
    batch = task.batch(0)

    def loss(**weights: float) -> tuple[float, dict[str, float]]:
        other = towers_task(**weights)
        with torch.no_grad():
            total, metrics = other.loss(batch, torch.Generator())
        return float(total), {name: float(value) for name, value in metrics.items()}

    contrast, metrics = loss(caption_weight=0.0, word_weight=0.0)
    assert contrast == pytest.approx(metrics["contrast"], rel=1e-5)
    both = loss(caption_weight=0.5, word_weight=2.0)[0]
    assert both == pytest.approx(contrast + 0.5 * metrics["caption"] + 2 * metrics["words"], rel=1e-4)


def test_clips_with_the_same_caption_are_both_right(task: ContrastiveTask) -> None:
    batch = task.batch(0)
    same = replace(batch, captions=[batch.captions[0]] * len(batch.captions))
    with torch.no_grad():
        assert float(task.loss(same, torch.Generator())[1]["retrieval"]) == 1.0


def test_padding_does_not_count(task: ContrastiveTask) -> None:
    heads, generator = task.heads, torch.Generator().manual_seed(0)
    ids = torch.tensor([[2, 9, 8, 7, 3]])
    padded = torch.nn.functional.pad(ids, (0, 4))
    text = torch.randn(1, 9, WIDTH, generator=generator)
    tokens, fps = torch.randn(1, 2, 5, WIDTH, generator=generator), torch.tensor([8.0])
    with torch.no_grad():
        short = heads.own_word_loss(text[:, :5], ids), heads.caption_loss(tokens, fps, ids)
        long = heads.own_word_loss(text, padded), heads.caption_loss(tokens, fps, padded)
    torch.testing.assert_close(long, short)


def test_a_word_is_guessed_from_the_words_before_it_and_the_frames(task: ContrastiveTask) -> None:
    """A decoder that saw the word itself would not train the image encoder."""
    heads = task.heads
    embedded: list[torch.Tensor] = []
    handle = heads.words.register_forward_hook(
        lambda module, given, out: embedded.append(out.detach().requires_grad_()) or embedded[-1]
    )
    tokens = torch.randn(1, 2, 5, WIDTH, requires_grad=True)
    # Only the second word is a target: the others are padding.
    heads.caption_loss(tokens, torch.tensor([8.0]), torch.tensor([[2, 9, 0, 0, 0]])).backward()
    handle.remove()
    reached = embedded[0].grad.abs().sum(dim=-1)[0]
    assert float(reached[0]) > 0
    assert reached[1:].tolist() == [0, 0, 0]
    assert float(tokens.grad.abs().sum()) > 0


def test_validation_is_the_same_in_every_run(task: ContrastiveTask) -> None:
    other = towers_task(seed=1)
    for name, module in task.modules().items():
        other.modules()[name].load_state_dict(module.state_dict())
    scores = task.validate()
    assert scores == other.validate()
    assert set(scores) == {"motion_word_change", *(f"retrieval_by_{kind}" for kind in KINDS)}
    assert all(0 <= scores[f"retrieval_by_{kind}"] <= 1 for kind in KINDS)
    assert set(task.config.validation_metrics()) == set(scores)


def test_the_motion_word_change_tells_a_deaf_tower() -> None:
    task = towers_task()
    with torch.no_grad():
        assert task._motion_word_change() > 0.001
        task.text_encoder.get_input_embeddings().weight.zero_()
        assert task._motion_word_change() == 0.0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_saved_towers_load_and_are_trained_on(tmp_path: Path, dtype: torch.dtype) -> None:
    task = towers_task()
    for tower in (task.text_encoder, task.image_encoder):
        tower.to(dtype)
    task.save_pipeline(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"tokenizer", "text_encoder", "image_encoder"}
    tokenizer = PreTrainedTokenizerFast.from_pretrained(tmp_path / "tokenizer")
    loaded = CLIPTextModel.from_pretrained(tmp_path / "text_encoder", dtype=torch.float32)
    CLIPVisionModel.from_pretrained(tmp_path / "image_encoder")
    later = build(replace(TOWERS, word_weight=1.0), tmp_path, stage_index=1)
    captions = ["a rocket is moving up over a blue sky", "a cat"]
    with torch.no_grad():
        said = encode_text(later.tokenizer, later.text_encoder, captions)
        torch.testing.assert_close(encode_text(tokenizer, loaded, captions), said)
    expected = task.image_encoder.state_dict()
    for name, weight in later.image_encoder.state_dict().items():
        assert torch.equal(weight, expected[name].float()), name
    assert torch.isfinite(later.loss(later.batch(0), torch.Generator())[0])
