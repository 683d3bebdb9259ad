from dataclasses import replace

import pytest

from videocrafter.evaluation.metrics import catalogue
from videocrafter.evaluation.prompt_list import PromptItem
from videocrafter.evaluation.protocols.by_name import PROTOCOLS, protocol_named
from videocrafter.evaluation.protocols.evalcrafter import EVALCRAFTER, EVALCRAFTER_COMPAT
from videocrafter.evaluation.protocols.protocol import Total
from videocrafter.evaluation.protocols.standard import STANDARD


def test_the_hash_covers_prompts_metrics_and_their_versions(monkeypatch):
    items = [PromptItem(prompt="a kite")]
    hashes = {
        STANDARD.sha256,
        STANDARD.with_prompts(items).sha256,
        STANDARD.with_prompts([*items, *items]).sha256,
        replace(STANDARD, seeds=(1,)).sha256,
        replace(STANDARD, metrics=STANDARD.metrics[1:]).sha256,
    }
    assert len(hashes) == 5
    before = STANDARD.sha256
    changed = replace(catalogue.VIDEO_METRICS["sharpness"], version=2)
    monkeypatch.setattr(
        "videocrafter.evaluation.protocols.protocol.metric_named",
        lambda name: changed if name == "sharpness" else catalogue.metric_named(name),
    )
    assert STANDARD.sha256 != before


def test_a_changed_prompt_list_is_refused():
    with pytest.raises(
        ValueError, match=r"protocol evalcrafter requires eabad4a1.* \(metadata.json or prompt700.txt"
    ):
        EVALCRAFTER.with_prompts([PromptItem(prompt="2 Dog and a whale, ocean adventure")])


def test_protocols_name_known_metrics_and_no_deviating_metric_is_in_a_correct_one():
    for name, protocol in PROTOCOLS.items():
        assert protocol_named(name) is protocol
        assert len(protocol.sha256) == 64
        assert set(protocol.ranges) <= set(protocol.metrics)
    assert not any(name.endswith("_compat") for name in EVALCRAFTER.metrics)
    with pytest.raises(ValueError, match="did you mean 'vbench'"):
        protocol_named("vbnech")


def test_totals_follow_the_released_formula():
    scores = {"vqa_aesthetic": 50.0, "vqa_technical": 60.0, "inception_score": 17.0}
    expected = 500 * (0.03004555 * 0.5 + 0.02887537 * 0.6 - 0.01382558 * 0.17 + 0.08707463)
    assert EVALCRAFTER_COMPAT.totals["visual_quality"].of(scores) == pytest.approx(expected)
    temporal = {"clip_temp_compat": 0.99, "raft_warping_error_compat": 0.01, "clip_first_frame_compat": 0.9}
    expected = 500 * (2.92492244 * 0.99 + 0.45475678 * (1 - 0.01) + 0.17561504 * 0.9 - 3.42274051)
    assert EVALCRAFTER_COMPAT.totals["temporal_consistency"].of(temporal) == pytest.approx(expected)
    assert EVALCRAFTER_COMPAT.totals["visual_quality"].of({"vqa_aesthetic": 1.0}) is None
    assert Total(weights={}, intercept=1.0, scale=2.0).of({}) == 2.0
