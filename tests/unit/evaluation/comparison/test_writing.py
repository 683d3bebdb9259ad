import json
import re

import pytest

from tests.tiny_studies import PROMPTS, SYSTEMS, write_systems
from videocrafter.evaluation.comparison.matching import match_videos
from videocrafter.evaluation.comparison.writing import PageSettings, check_comparison_folder, write_comparison
from videocrafter.evaluation.video_set import read_video_set
from videocrafter.media.errors import MediaError
from videocrafter.media.video_file import probe


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    folders = write_systems(tmp_path_factory.mktemp("systems"))
    found = {name: read_video_set(path) for name, path in folders.items()}
    # Damaged only now: a file that is damaged before is no entry of the set.
    (folders["newmodel"] / "1.mp4").write_bytes((folders["newmodel"] / "1.mp4").read_bytes()[:700])
    return found


def data_of(page):
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page)[1])


def test_the_page_is_complete_in_one_file(sets, tmp_path):
    metrics = {"oldmodel": {("0.mp4", PROMPTS[0], 0): {"clip": 0.25}}}
    written = write_comparison(
        match_videos(sets), SYSTEMS, tmp_path, PageSettings(title="a </script> & b"), metrics=metrics
    )
    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert page.count("</script>") == 2  # no prompt ends the data
    assert not re.search(r"https?://|//cdn|@import|url\(", page)
    data = data_of(page)
    assert data["title"] == "a </script> & b"
    assert [row["prompt"] for row in data["rows"]] == list(PROMPTS)
    assert data["rows"][0]["cells"][0]["metrics"] == {"clip": 0.25}
    assert data["settings"] == {"model": {"oldmodel": "oldmodel", "newmodel": "newmodel"}}
    assert all(address.startswith("data:image/webp;base64,") for address in data["files"].values())
    assert {path.name for path in tmp_path.iterdir()} == {path.name for path in written}
    assert probe(tmp_path / "sheet.mp4").num_frames == probe(tmp_path / "sheet.gif").num_frames == 4


def test_a_damaged_video_is_a_cell_that_says_so(sets, tmp_path):
    write_comparison(match_videos(sets), SYSTEMS, tmp_path, PageSettings())
    cells = data_of((tmp_path / "index.html").read_text())["rows"][1]["cells"]
    assert cells[0]["frames"] == 4
    assert "1.mp4" in cells[1]["error"]


def test_large_pages_keep_their_pictures_next_to_them(sets, tmp_path):
    write_comparison(match_videos(sets), SYSTEMS, tmp_path, PageSettings(embed=False))
    data = data_of((tmp_path / "index.html").read_text())
    assert all((tmp_path / address).is_file() for address in data["files"].values())
    with pytest.raises(MediaError, match="already exists"):
        check_comparison_folder(tmp_path, overwrite=False)
    write_comparison(match_videos(sets), SYSTEMS, tmp_path, PageSettings(embed=False), overwrite=True)
    (tmp_path / "index_files" / "thesis.doc").write_text("mine")
    with pytest.raises(MediaError, match=r"thesis\.doc"):
        write_comparison(match_videos(sets), SYSTEMS, tmp_path, PageSettings(embed=False), overwrite=True)


def test_nothing_to_compare_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="nothing to compare"):
        write_comparison([], SYSTEMS, tmp_path, PageSettings())
    with pytest.raises(ValueError, match="size is 1;"):
        PageSettings(size=1)
