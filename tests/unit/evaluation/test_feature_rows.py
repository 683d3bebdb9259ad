import numpy as np

from videocrafter.evaluation.feature_rows import FeatureRows


def test_rows_are_read_back_in_parts(tmp_path):
    rows = FeatureRows(tmp_path / "features" / "dino.npy", 5)
    assert (rows.shape, rows[:3].shape) == ((0, 0), (0, 0))
    for number in range(4):
        rows.add(np.array([number, number / 2], np.float32), number // 2)
    assert rows.groups == [0, 0, 1, 1]
    assert (len(rows), rows.shape) == (4, (4, 2))
    assert rows[1:9].tolist() == [[1, 0.5], [2, 1], [3, 1.5]]
    assert rows[np.array([3, 0])].tolist() == [[3, 1.5], [0, 0]]


def test_rows_of_an_earlier_set_are_replaced(tmp_path):
    for value in (1.0, 1 / 3):
        rows = FeatureRows(tmp_path / "sums.npy", 1, np.float64)
        rows.add(np.array([value]), 0)
    assert rows[:].tolist() == [[1 / 3]]
