import numpy as np
import pytest

from videocrafter.evaluation.feature_rows import FeatureRows
from videocrafter.evaluation.metrics.distances import frechet_distance, gaussian_of
from videocrafter.evaluation.metrics.inception_score import ClassSums, inception_score_of_splits
from videocrafter.evaluation.metrics.set_metric import SET_METRICS
from videocrafter.evaluation.results import VideoResult
from videocrafter.evaluation.scores import Collected, score
from videocrafter.evaluation.uncertainty import jackknife_interval, mean_of_prompts


def result(prompt, **values):
    facts = {"name": "a.mp4", "seed": 0, "image_sha256": None, "fingerprint": "", "num_frames": 2}
    return VideoResult(prompt=prompt, height=4, width=4, fps=8, values=values, **facts)


def test_values_are_kept_by_prompt():
    collected = Collected()
    numbers = [collected.add(result(*one)) for one in (("a",), ("b",), ("a",))]
    assert (numbers, list(collected.prompts)) == ([0, 1, 0], ["a", "b"])
    collected.add(result("c", sharpness=1.0))
    collected.add(result("a", sharpness=4.0))
    collected.add(result("c", sharpness=2.0))
    assert collected.estimates() == {"sharpness": mean_of_prompts({"c": [1.0, 2.0], "a": [4.0]})}


def test_scores_of_a_set_from_disk_equal_those_from_memory(tmp_path):
    random = np.random.default_rng(0)
    groups = [number // 2 for number in range(24)]
    features = random.standard_normal((24, 3)).astype(np.float32)
    sums = [ClassSums.of(random.dirichlet(np.ones(4), 5)) for _ in groups]
    stored = {"efficientnet_lite0": features, "efficientnet_lite0_classes": [one.to_row() for one in sums]}
    rows = {}
    for output, vectors in stored.items():
        rows[output] = FeatureRows(tmp_path / f"{output}.npy", 30, np.float64)
        for vector, group in zip(vectors, groups, strict=True):
            rows[output].add(vector, group)
    real = FeatureRows(tmp_path / "real.npy", 24)
    for vector in features + 1:
        real.add(vector, 0)
    metrics = [SET_METRICS[f"efficientnet_lite0_{name}"] for name in ("class_score", "frechet")]
    found = score(Collected(), metrics, rows, {"efficientnet_lite0": real}).estimates

    class_score, frechet = (found[metric.name] for metric in metrics)
    value = inception_score_of_splits(sums)
    low, high = jackknife_interval(groups, lambda kept: inception_score_of_splits([sums[i] for i in kept]), value)
    assert (class_score.value, class_score.low, class_score.high) == pytest.approx((value, low, high), rel=1e-12)
    expected = frechet_distance(gaussian_of(features), gaussian_of(features + 1))
    assert frechet.value == pytest.approx(expected, rel=1e-6) == pytest.approx(3, rel=1e-3)
    assert (frechet.num_prompts, frechet.num_videos) == (12, 24)
