import pytest

from videocrafter.evaluation.study.measurements import read_measurements


def test_tables_of_metrics_are_read_strictly(tmp_path):
    path = tmp_path / "metrics.csv"
    path.write_text("system,prompt,seed,clip\na,cat,1,0.5\na,dog,,0.25\n")
    assert read_measurements(path).values == {("a", "cat", 1): (0.5,), ("a", "dog", None): (0.25,)}
    for row, word in (("a,dog,1,high", "clip is 'high'"), ("a,dog,x,1", "seed is 'x'"), ("a,cat,1,2", "second row")):
        path.write_text(f"system,prompt,seed,clip\na,cat,1,0.5\n{row}\n")
        with pytest.raises(ValueError, match=word):
            read_measurements(path)
