"""Videos of the gallery become a grid: equal settings in a column, the same prompt and seed in a row."""

import io
import json
import weakref

import numpy as np
import pytest
from PIL import Image

from tests.unit.web.conftest import problem
from videocrafter.evaluation.comparison.films import make_film, read_shown
from videocrafter.media.video_file import write_video
from videocrafter.media.video_reader import VideoReader
from videocrafter.web import comparison
from videocrafter.web.comparison import MOST_VIDEOS, comparison_data


@pytest.fixture
def video(studio, add_video):
    """Add a video with a prompt, a seed and a guidance scale; return its row."""

    def add(prompt, seed, guidance, **request):
        recording = {"prompt": prompt, "seed": seed, "model": "tiny", "guidance_scale": guidance}
        asked = {"prompt": prompt, "seed": seed, "guidance_scale": guidance, **request}
        return studio.videos.get(add_video(prompt, recording=recording, request=asked))

    return add


def names(data):
    return [[cell and cell["name"] for cell in row["cells"]] for row in data["rows"]]


def test_prompts_are_rows_and_settings_columns_whatever_the_order(video):
    a2, a8 = video("a cat", 1, 2.0), video("a cat", 1, 8.0)
    b8, b2 = video("a dog", 1, 8.0), video("a dog", 1, 2.0)
    data = comparison_data([a2, b8, a8, b2])
    assert data["columns"] == ["guidance_scale 2", "guidance_scale 8"]
    assert [(row["prompt"], row["seed"]) for row in data["rows"]] == [("a cat", 1), ("a dog", 1)]
    assert names(data) == [[a2.id, a8.id], [b2.id, b8.id]]
    assert data["settings"] == {"guidance_scale": {"guidance_scale 2": "2", "guidance_scale 8": "8"}}
    assert data["missing"] == []


@pytest.mark.parametrize(
    ("recordings", "columns"),
    [
        # The name of the model says what its hash and its steps say.
        (
            [
                {"model_hash": "1a", "model": "tiny-t2v", "num_inference_steps": 25},
                {"model_hash": "2b", "model": "tiny-t2v-fast", "num_inference_steps": 4},
            ],
            ["model tiny-t2v", "model tiny-t2v-fast"],
        ),
        (
            [{"model_hash": "1a", "model": "tiny"}, {"model_hash": "2b", "model": "tiny"}],
            ["model_hash 1a", "model_hash 2b"],
        ),
        (
            [{"fps": fps, "eta": eta} for fps in (8, 24) for eta in (0, 1)],
            ["fps 8, eta 0", "fps 8, eta 1", "fps 24, eta 0", "fps 24, eta 1"],
        ),
    ],
)
def test_a_column_is_named_by_what_tells_it_apart(studio, add_video, recordings, columns):
    videos = [
        studio.videos.get(add_video("a cat", recording={"prompt": "a cat", "seed": 1, **one})) for one in recordings
    ]
    data = comparison_data(videos)
    assert data["columns"] == columns
    assert set(data["settings"]) == {key for key in recordings[0] if len({one[key] for one in recordings}) > 1}


def test_an_empty_cell_is_requested_with_its_column_and_row(video):
    videos = [video("a cat", 1, 2.0, preset="draft"), video("a cat", 1, 8.0, image="f" * 32), video("a dog", 5, 2.0)]
    data = comparison_data(videos)
    assert names(data)[1] == [videos[2].id, None]
    assert data["missing"] == [{"prompt": "a dog", "seed": 5, "guidance_scale": 8.0, "num_videos": 1}]


def test_equal_settings_are_next_to_each_other(video):
    videos = [video("a cat", 1, 2.0), video("a dog", 2, 2.0), video("a dog", 2, 2.0)]
    data = comparison_data(videos)
    assert data["columns"] == ["a cat · seed 1", "a dog · seed 2", "a dog · seed 2 (3)"]
    assert names(data) == [[one.id for one in videos]]


def test_one_video_and_none_are_shown_too(video):
    one = video("a cat", 1, 2.0)
    assert names(comparison_data([one])) == [[one.id]]
    assert comparison_data([])["rows"] == []


def page_data(client, query):
    text = client.get(f"/compare?{query}").text
    return json.loads(text.split('id="data">')[1].split("</script>")[0])


def test_the_page_holds_the_videos_of_ids_and_of_jobs_and_counts_those_that_are_gone(client, studio, video):
    one, other = video("</script><b>{{stage}}", 1, 2.0), video("a dog", 1, 2.0)
    data = page_data(client, f"ids={one.id},{'0' * 32}&jobs={other.job}")
    assert sorted(names(data)[0]) == sorted([one.id, other.id])
    assert (data["gone"], data["jobs"]) == (1, [other.job])
    assert "<b>" not in client.get(f"/compare?ids={one.id}").text
    assert page_data(client, "")["rows"] == []
    for path, kind in (("compare.js", "text/javascript"), ("compare.css", "text/css")):
        assert client.get(f"/comparison/{path}").headers["content-type"].startswith(kind)


def test_the_pictures_hold_every_frame(client, studio, video):
    row = video("a cat", 1, 2.0)
    frames = np.random.default_rng(0).integers(0, 256, (8, 64, 64, 3), dtype=np.uint8)
    write_video(studio.folder.video(row.id), frames, 8, overwrite=True)
    data = comparison_data([row])
    cell = data["rows"][0]["cells"][0]
    answer = client.get(data["files"][cell["pictures"][0]])
    assert answer.headers["content-type"] == "image/webp"
    picture = Image.open(io.BytesIO(answer.content))
    assert picture.size == (cell["across"] * cell["width"], -(-cell["tiles"] // cell["across"]) * cell["height"])
    problem(client.get(f"/api/v1/videos/{row.id}/film/1.webp"), 404, "not-found")


def test_the_page_names_all_finished_videos_also_those_without_a_cell(client, studio, video):
    shown, equal, binned = video("a cat", 1, 2.0), video("a cat", 1, 2.0), video("a dog", 1, 2.0)
    other = video("a cat", 1, 8.0)
    studio.videos.set_deleted(binned.id, True)
    made = [shown, equal, binned, other]
    data = page_data(client, f"jobs={','.join(one.job for one in made)}")
    assert names(data) == [[shown.id, other.id]]
    assert data["considered"] == [one.id for one in made]


def test_the_page_names_videos_beyond_its_limit(client, video):
    made = [video(f"prompt {number}", 1, 2.0) for number in range(MOST_VIDEOS + 1)]
    data = page_data(client, f"ids={made[0].id}&jobs={','.join(one.job for one in made[1:])}")
    assert made[-1].id in data["considered"]


def test_empty_cells_are_offered_only_if_one_page_shows_them_all(video):
    data = comparison_data([video(f"prompt {number}", 1, float(number)) for number in range(8)])
    assert (data["empty"], len(data["missing"])) == (56, 56)
    data = comparison_data([video(f"prompt {number}", 1, float(number)) for number in range(9)])
    assert (data["empty"], data["missing"]) == (72, [])


def test_a_film_shrinks_frames_while_they_are_read(tmp_path, monkeypatch):
    path = tmp_path / "v.mp4"
    write_video(path, np.random.default_rng(0).integers(0, 256, (6, 32, 48, 3), dtype=np.uint8), 8)
    monkeypatch.setattr(comparison, "_SIZE", 24)
    monkeypatch.setattr(comparison, "_MOST_FRAMES", 4)
    taken, most = [], []
    original = VideoReader.frames

    def frames(self):
        for frame in original(self):
            taken.append(weakref.ref(frame))
            most.append(sum(one() is not None for one in taken))
            yield frame

    monkeypatch.setattr(VideoReader, "frames", frames)
    film = comparison.film_of(path)
    monkeypatch.undo()
    assert max(most) <= 2
    assert film == make_film(*read_shown(path, 24, 4))
