import json

import pytest

from videocrafter.evaluation.study.measurements import join_evaluations, read_measurements


def test_tables_of_metrics_are_read_strictly(tmp_path):
    path = tmp_path / "metrics.csv"
    path.write_text("system,prompt,seed,clip\na,cat,1,0.5\na,dog,,0.25\n")
    assert read_measurements(path).values == {("a", "cat", 1): (0.5,), ("a", "dog", None): (0.25,)}
    for row, word in (("a,dog,1,high", "clip is 'high'"), ("a,dog,x,1", "seed is 'x'"), ("a,cat,1,2", "second row")):
        path.write_text(f"system,prompt,seed,clip\na,cat,1,0.5\n{row}\n")
        with pytest.raises(ValueError, match=word):
            read_measurements(path)


def test_evaluations_are_joined_by_system(tmp_path):
    for name, extra in (("old", {"flicker": 0.5}), ("new", {})):
        (tmp_path / name).mkdir()
        lines = [
            {"name": f"{seed}.mp4", "prompt": "a cat", "seed": seed, "values": {"clip": seed / 10} | extra}
            for seed in (1, 2)
        ]
        (tmp_path / name / "measurements.jsonl").write_text("\n".join(map(json.dumps, lines)))
    joined = join_evaluations({"old": tmp_path / "old", "new": tmp_path / "new"})
    assert joined.names == ("clip",)
    assert joined.values["new", "a cat", 2] == (0.2,)
    old = join_evaluations({"old": tmp_path / "old"})
    assert old.only(["flicker"]).values["old", "a cat", 1] == (0.5,)
    with pytest.raises(ValueError, match="'blur' is not among the metrics"):
        old.only(["blur"])
    with pytest.raises(ValueError, match=r"contains no measurements\.jsonl"):
        join_evaluations({"old": tmp_path})
