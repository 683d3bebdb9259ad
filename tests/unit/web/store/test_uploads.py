"""Uploads that nothing names are removed after some time; all others stay."""

from videocrafter.web.maintenance import clean, recover
from videocrafter.web.store.uploads import Upload


def add(studio, identity):
    sizes = {"width": 1, "height": 1, "num_bytes": 1}
    studio.uploads.add(Upload(id=identity, kind="image", suffix=".png", sha256=identity, **sizes))
    studio.folder.upload(identity, ".png").write_bytes(b"x")
    studio.database.connection.execute("UPDATE uploads SET created_s = 0 WHERE id = ?", (identity,))


def test_only_old_uploads_without_a_use_are_removed(studio, add_video):
    ids = {name: name * 32 for name in "abcd"}
    for identity in ids.values():
        add(studio, identity)
    video = add_video()
    studio.database.connection.execute("DELETE FROM jobs WHERE state = 'done'")
    studio.database.connection.execute(
        "UPDATE videos SET request = ? WHERE id = ?", (f'{{"prompt": "a", "image": "{ids["b"]}"}}', video)
    )
    studio.jobs.add({"prompt": "a", "image": ids["a"]}, most_queued=9)
    # Uploading it again is a use.
    sizes = {"width": 1, "height": 1, "num_bytes": 1}
    again = Upload(id="e" * 32, kind="image", suffix=".png", sha256=ids["c"], **sizes)
    assert studio.uploads.add(again).id == ids["c"]
    clean(studio)
    assert sorted(path.stem for path in studio.folder.uploads.glob("*.png")) == [ids["a"], ids["b"], ids["c"]]


def test_files_of_uploads_without_a_row_are_removed_at_the_start(studio):
    add(studio, "a" * 32)
    orphan, strange = studio.folder.upload("b" * 32, ".mp4"), studio.folder.uploads / "notes.txt"
    for path in (orphan, strange):
        path.write_bytes(b"x")
    recover(studio)
    assert sorted(path.name for path in studio.folder.uploads.iterdir()) == [f"{'a' * 32}.png", strange.name]


def test_an_upload_that_a_new_job_names_is_not_forgotten(studio):
    add(studio, "a" * 32)
    studio.jobs.add({"prompt": "a", "image": "a" * 32}, most_queued=9)
    assert not studio.uploads.forget("a" * 32)
