import numpy as np

from videocrafter.evaluation.comparison.sheet import SheetRow, moving_sheet, still_sheet


def video(count, value, height=16, width=16):
    frames = np.zeros((count, height, width, 3), np.uint8)
    frames[..., 0] = value
    frames[..., 1] = np.arange(count)[:, None, None] * 20
    return frames


def test_all_cells_follow_one_clock():
    row = SheetRow(caption="p", image=video(1, 90)[0], cells=[(video(4, 250), 4.0), (video(8, 200), 8.0), None])
    frames, fps, count = moving_sheet([row], ["a", "b", "c"], 32)
    sheets = list(frames)
    assert (fps, count, len(sheets)) == (8.0, 8, 8)
    shown = [[int(sheet[sheet[..., 0] == value, 1].max()) // 20 for value in (250, 200)] for sheet in sheets]
    assert shown == [[0, 0], [0, 1], [1, 2], [1, 3], [2, 4], [2, 5], [3, 6], [3, 7]]
    assert all(sheet.shape == sheets[0].shape and sheet.shape[0] % 2 == sheet.shape[1] % 2 == 0 for sheet in sheets)


def test_long_videos_are_shown_to_the_end_at_a_lower_rate():
    cells = [(video(2, 250), 0.05), (video(4, 200), 30.0)]  # 40 s next to a high rate
    frames, fps, count = moving_sheet([SheetRow(caption="p", image=None, cells=cells)], ["a", "b"], 16)
    assert (fps, count) == (128 / 40, 128)
    *_, last = frames
    assert last[last[..., 0] == 250, 1].max() == 20


def test_a_still_shows_four_frames_and_the_input_image():
    row = SheetRow(caption="p", image=video(1, 90)[0], cells=[(video(9, 250), 8.0)])
    sheet = still_sheet([row], ["a"], 16)
    greens = sheet[sheet[..., 0] == 250, 1]
    assert sorted(set(greens.tolist())) == [0, 60, 100, 160]
    assert (sheet[..., 0] == 90).sum() == 16 * 16


def test_rows_of_different_shapes_do_not_overlap():
    rows = [
        SheetRow(caption="wide", image=None, cells=[(video(1, 250, 8, 32), 8.0)]),
        SheetRow(caption="tall", image=None, cells=[(video(1, 200, 32, 8), 8.0)]),
    ]
    sheet = still_sheet(rows, ["a"], 32)
    assert (sheet[..., 0] == 250).sum() == 8 * 32
    assert (sheet[..., 0] == 200).sum() == 32 * 8
