import json

import pytest

from videocrafter.evaluation.study.design import Prompt
from videocrafter.evaluation.study.measurements import Measurements, Video, join_evaluations, read_measurements


def test_tables_of_metrics_are_read_strictly(tmp_path):
    path = tmp_path / "metrics.csv"
    path.write_text("system,prompt,seed,clip\na,cat,1,0.5\na,dog,,0.25\n")
    assert read_measurements(path).values == {
        Video(system="a", prompt="cat", seed=1): (0.5,),
        Video(system="a", prompt="dog"): (0.25,),
    }
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
    assert joined.of("new", Prompt(text="a cat", seed=2)) == (0.2,)
    old = join_evaluations({"old": tmp_path / "old"})
    assert old.only(["flicker"]).of("old", Prompt(text="a cat", seed=1)) == (0.5,)
    with pytest.raises(ValueError, match="'blur' is not among the metrics"):
        old.only(["blur"])
    with pytest.raises(ValueError, match=r"contains no measurements\.jsonl"):
        join_evaluations({"old": tmp_path})


def test_a_video_is_found_by_name_then_by_seed_then_as_the_only_one():
    cat, any_cat = Prompt(text="cat", seed=1), Prompt(text="cat")
    on_bird, on_kite = (Video(system="a", prompt="cat", seed=1, name=f"{name}.mp4") for name in ("bird", "kite"))
    two_images = Measurements(names=("clip",), values={on_bird: (1.0,), on_kite: (2.0,)})
    assert two_images.of("a", cat, "kite.mp4") == (2.0,)
    assert two_images.of("a", cat) is None
    assert two_images.of("b", cat, "kite.mp4") is None
    seeds = {Video(system="a", prompt="cat", seed=seed, name=f"{seed}.mp4"): (float(seed),) for seed in (1, 2)}
    two_seeds = Measurements(names=("clip",), values=seeds)
    assert two_seeds.of("a", cat, "elsewhere.mp4") == (1.0,)
    assert two_seeds.of("a", any_cat) is None
    assert two_seeds.of("a", any_cat, "2.mp4") == (2.0,)
    one = Measurements(names=("clip",), values={Video(system="a", prompt="cat", seed=5): (3.0,)})
    assert one.of("a", any_cat) == (3.0,)
    assert one.of("a", cat) is None
    seedless = Measurements(names=("clip",), values={Video(system="a", prompt="cat"): (4.0,)})
    assert seedless.of("a", cat) == seedless.of("a", any_cat) == (4.0,)


def test_a_table_may_name_files(tmp_path):
    path = tmp_path / "metrics.csv"
    path.write_text("system,prompt,video,clip\na,cat,bird.mp4,1\na,cat,kite.mp4,2\n")
    assert read_measurements(path).of("a", Prompt(text="cat", seed=1), "kite.mp4") == (2.0,)
