"""Model cards: valid for the hub, complete, and without unsupported claims."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard
from hypothesis import given
from hypothesis import strategies as st

from videocrafter.checkpoints.publishing.licences import Licence, parse_licence
from videocrafter.checkpoints.publishing.model_card import CardFacts, LoraFacts, card_licence, linked_files, make_card
from videocrafter.checkpoints.publishing.training_record import StageRecord, TrainingRecord

SETTINGS = {"num_frames": 8, "height": 32, "width": 48, "fps": 12.0, "fps_range": [4.0, 24.0], "guidance_scale": 3.5}
STAGE = StageRecord(
    name="low",
    steps=1200,
    planned_steps=5000,
    settings={
        "optimizer": {"name": "muon", "lr": 3e-4, "decay": "cosine", "accumulate": 2},
        "task": {"batch_size": 16, "image_batch_size": 32, "world": {"height": 32, "width": 48, "num_frames": 8}},
        "data": {"sources": ["webvid:/home/bob/webvid/train.csv", "hf://datasets/ann/clips/a.tar"]},
    },
)
RECORD = TrainingRecord(
    recipe={"name": "films", "seed": 7},
    start="vc2-t2v-512",
    stages=(replace(STAGE, name="gate", steps=100, planned_steps=100), STAGE),
    versions={"videocrafter": "0.9.1", "torch": "2.13"},
)
FACTS = CardFacts(
    name="films",
    repo_id="ann/films",
    licence=Licence(identifier="apache-2.0"),
    task="t2v",
    data="Clips of my own garden.",
    record=RECORD,
    settings=SETTINGS,
    knowledge={"subjects": ["owl", "cat"], "motions": ["left"]},
    num_parameters={"unet": 1_860_000},
    has_samples=True,
    version="1.2.3",
)
BARE = CardFacts(name="films", repo_id=None, licence=parse_licence("mit"), task="t2v", version="1.2.3")


def section(card: str, title: str) -> str:
    return re.search(rf"^## {title}\n\n(.*?)(?=^## |\Z)", card, flags=re.MULTILINE | re.DOTALL)[1]


def test_the_front_matter_is_what_the_hub_reads():
    assert ModelCard(make_card(FACTS)).data.to_dict() == {
        "license": "apache-2.0",
        "library_name": "diffusers",
        "pipeline_tag": "text-to-video",
        "tags": ["videocrafter", "text-to-video"],
        "base_model": "VideoCrafter/VideoCrafter2",
        "base_model_relation": "finetune",
        "datasets": ["ann/clips"],
    }


def test_every_fact_is_in_its_section():
    card = make_card(FACTS)
    assert "# films\n\n![Samples generated during training](samples.png)\n" in card
    stated = {
        "Description": [
            "text-to-video",
            "`films`",
            "`unet` 1.86 million",
            "48 × 32 pixels, 8 frames, fps 12",
            "2310.19512",
        ],
        "Usage": ["hf download ann/films --local-dir films", '"an owl"', 'snapshot_download("ann/films")'],
        "Training data": [
            "Clips of my own garden.",
            "- WebVid train.csv",
            "hf://datasets/ann/clips/a.tar",
            "comes in addition",
        ],
        "Training recipe": [
            "| `gate` | 100 | 2 × (16 clips or 32 images) | 0.0003, muon, cosine | 48 × 32, 8 frames |",
            "| `low` | 1,200 of 5,000 |",
            "Seed: 7.",
            "Trained with videocrafter 0.9.1, torch 2.13.",
            "Published with videocrafter 1.2.3.",
        ],
        "Licence": ["**apache-2.0**", "`vc2-t2v-512`", "research and non-commercial use only"],
        "Limitations": [
            "stage `low` was at step 1,200 of 5,000",
            "only these subjects: owl, cat",
            "no measured quality",
        ],
    }
    for title, facts in stated.items():
        assert [fact for fact in facts if fact not in section(card, title)] == [], title
    assert "/home" not in card


def test_sizes_as_recipes_on_clips_have_them():
    cutting = {"height": 320, "width": 512, "sampling": {"lengths": [16, 8]}}
    settings = {"task": {"validation": {"num_frames": 3}, "samples": {"height": 9}, "data": {"cutting": cutting}}}
    for task, shown in (
        ({}, "512 × 320, 16 or 8 frames"),
        ({"frames_like_start": True}, "same as the base model"),
    ):
        stage = replace(STAGE, settings={"task": {**settings["task"], **task}})
        assert shown in section(make_card(replace(FACTS, record=replace(RECORD, stages=(stage,)))), "Training recipe")


def test_what_is_not_known_is_called_not_known():
    card = make_card(BARE)
    assert "Unknown: the recipe names no data" in section(card, "Training data")
    assert "Unknown: the weights came without a training record" in section(card, "Training recipe")
    assert "snapshot_download" not in card
    assert "samples.png" not in card
    assert {"base_model", "datasets"}.isdisjoint(ModelCard(card).data.to_dict())
    unversioned = make_card(replace(FACTS, record=replace(RECORD, versions={}), data=""))
    assert "The version used for training is unknown." in section(unversioned, "Training recipe")
    assert "Unknown" not in section(unversioned, "Training data")


def test_a_licence_of_ones_own():
    card = make_card(replace(BARE, licence=parse_licence("Garden Licence 1"), licence_file="LICENSE"))
    data = ModelCard(card).data.to_dict()
    assert (data["license"], data["license_name"], data["license_link"]) == ("other", "garden-licence-1", "LICENSE")
    assert "**Garden Licence 1** ([text](LICENSE))" in section(card, "Licence")


def test_a_lora():
    lora = replace(FACTS, lora=LoraFacts(ranks=(4, 8, 8)), settings={}, knowledge={}, num_parameters={})
    card = make_card(lora)
    data = ModelCard(card).data.to_dict()
    assert data["tags"] == ["videocrafter", "text-to-video", "lora"]
    assert (data["base_model"], data["base_model_relation"]) == ("VideoCrafter/VideoCrafter2", "adapter")
    assert "It changes 3 layers, with rank 4 to 8." in section(card, "Description")
    assert "--model vc2-t2v-512 --lora films" in section(card, "Usage")
    assert 'load_lora_weights(snapshot_download("ann/films"))' in section(card, "Usage")


def test_the_author_names_the_base_model():
    lora = replace(BARE, lora=LoraFacts(ranks=(4,)), task=None)
    assert "Its base model is unknown." in section(make_card(lora), "Description")
    assert "pipeline_tag" not in ModelCard(make_card(lora)).data.to_dict()
    named = make_card(replace(lora, base_model="ann/base"))
    assert ModelCard(named).data.to_dict()["base_model"] == "ann/base"
    assert "path/to/the/base-model" in section(named, "Usage")
    by_preset = make_card(replace(lora, base_model="VideoCrafter/Image2Video-512"))
    assert "--model i2v-512" in section(by_preset, "Usage")
    shipped = make_card(replace(lora, base_model="tiny-t2v"))
    assert "base_model" not in ModelCard(shipped).data.to_dict()
    assert "It adapts `tiny-t2v`" in section(shipped, "Description")


def test_weights_of_other_runs():
    before = TrainingRecord(recipe={"name": "first"}, stages=(STAGE,))
    known = make_card(replace(FACTS, record=replace(RECORD, start="first/final", before=before)))
    assert "the weights of the recipe `first`" in section(known, "Description")
    assert "initialised from:\n\n- WebVid train.csv" in section(known, "Training data")
    unknown = make_card(replace(FACTS, record=replace(RECORD, start="first/final")))
    assert "`first/final`, about which nothing more is known" in section(unknown, "Description")


WORDS = st.text(max_size=40)


@given(name=WORDS, data=WORDS, recipe=WORDS.filter(bool), word=WORDS, licence=WORDS, stage=WORDS)
def test_odd_words_break_nothing(name: str, data: str, recipe: str, word: str, licence: str, stage: str):
    try:
        chosen = parse_licence(f"other:{licence}")
    except ValueError:
        chosen = parse_licence("mit")
    odd: dict[str, Any] = {"name": name, "data": data, "licence": chosen, "knowledge": {"scenes": [word]}}
    record = replace(RECORD, recipe={"name": recipe}, stages=(replace(STAGE, name=stage),))
    card = make_card(replace(FACTS, **odd, repo_id=None, record=record))
    read = ModelCard(card)
    assert read.data.to_dict()["license"] == chosen.identifier
    assert data.strip().replace("\r\n", "\n") in card.replace("\r\n", "\n")
    (row,) = [line for line in section(card, "Training recipe").splitlines() if line.startswith("| `")]
    assert len(re.findall(r"(?<!\\)\|", row)) == 6
    for title in ("Usage", "Training data", "Training recipe", "Licence", "Limitations"):
        assert section(card, title)


@pytest.mark.parametrize(
    ("front", "licence"), [("license: mit", "mit"), ("license: [mit, apache-2.0]", "mit, apache-2.0")]
)
def test_the_licence_of_a_card_that_is_there(tmp_path: Path, front: str, licence: str):
    (tmp_path / "README.md").write_text(f"---\n{front}\n---\n# Films\n")
    assert card_licence(tmp_path / "README.md") == licence


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("# Films\n", "has no licence"),
        ("---\ntags: [a]\n---\n", "has no licence"),
        ("---\nlicense: [\n---\n", "cannot be read"),
        ("---\n- a\n---\n", "cannot be read"),
    ],
)
def test_cards_without_a_licence_are_refused(tmp_path: Path, content: str, reason: str):
    (tmp_path / "README.md").write_text(content)
    with pytest.raises(ValueError, match=reason) as caught:
        card_licence(tmp_path / "README.md")
    assert "\n" not in str(caught.value)


def test_files_that_a_card_shows():
    card = (
        "![a](samples.png) [b](./docs/more%20words.md#part) [c](https://example.org/x.png) <img src='film.gif'>"
        " [d](#limits) [e](/etc/passwd) [f](mailto:a@b.c) ![a again](samples.png)"
    )
    assert linked_files(card) == ("samples.png", "docs/more words.md", "film.gif")
