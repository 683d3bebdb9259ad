"""Failures in the studio: each shows a sentence that says what to do. No model is loaded here."""

import io
import threading

import pytest

pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install playwright")

import numpy as np
from PIL import Image
from playwright.sync_api import expect

from tests.browser.conftest import serving
from tests.browser.studio_server import wait_for
from videocrafter.web.app import create_app
from videocrafter.web.limits import Limits
from videocrafter.web.store.database import Database
from videocrafter.web.store.videos import Video
from videocrafter.web.studio import Studio, StudioConfig

PATIENCE_MS = 120_000


@pytest.fixture
def studio_with(tmp_path):
    """Start a server without a worker, with some limits; return its studio and address."""
    started = []

    def start(**limits):
        config = StudioConfig(data=tmp_path / "data", limits=Limits(**{"disk_free_bytes": 0, **limits}))
        context = serving(create_app(Studio(config), None))
        started.append(context)
        return Studio(config), context.__enter__()

    yield start
    for context in started:
        context.__exit__(None, None, None)


def fail(studio, code, message, **more):
    job, _ = studio.jobs.add({"prompt": f"job {code}", "seed": 1, "num_frames": 16}, most_queued=99)
    studio.jobs.claim("w", attempts=99)
    studio.jobs.finish(job.id, "w", "failed", {"code": code, "message": message, **more})
    return job.id


def png(width, height):
    pixels = np.random.default_rng(0).integers(0, 255, (height, width, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def test_failed_jobs_say_what_to_do_and_do_it(studio_with, open_page):
    studio, address = studio_with()
    fail(studio, "not-finite", "NaN in step 2; set dtype to float32, or lower the guidance scale")
    fail(studio, "model-unavailable", "model 'x' is not offered here; choose one of tiny")
    fail(studio, "interrupted", "the worker ended 3 times during this job; try smaller settings, then retry")
    smaller = [{"num_frames": 8}, {"height": 32, "width": 32}, {"num_frames": 4}]
    fail(studio, "out-of-memory", "there is not enough memory; these need less", suggestions=smaller)
    page = open_page()
    page.goto(f"{address}/queue")
    rows = page.locator("#finished li[data-job]")
    expect(rows).to_have_count(4, timeout=PATIENCE_MS)
    for code, text in (("not-finite", "float32"), ("model-unavailable", "choose one of"), ("interrupted", "smaller")):
        expect(rows.filter(has_text=f"job {code}").locator(".error")).to_contain_text(text)
    memory = rows.filter(has_text="job out-of-memory")
    expect(memory.get_by_role("button", name="Try again with")).to_have_count(3)
    memory.get_by_role("button", name="Try again with height 32, width 32").click()
    expect(page.locator("#active li", has_text="job out-of-memory")).to_be_visible(timeout=PATIENCE_MS)
    assert studio.jobs.waiting()[0].request["height"] == 32
    page.get_by_role("button", name="Retry failed").click()
    expect(page.locator("#finished li[data-job]")).to_have_count(0, timeout=PATIENCE_MS)
    expect(page.locator("#active li")).to_have_count(5, timeout=PATIENCE_MS)


@pytest.mark.parametrize(
    ("reason", "text", "can_resume"),
    [
        ("failures", "several jobs in a row failed for the same reason", True),
        ("interrupted", "a job ended the worker again and again", True),
        ("disk-low", "MiB, and the queue resumes by itself", False),
        ("user", "the queue was paused", True),
    ],
)
def test_a_paused_queue_says_why_on_every_page(studio_with, open_page, reason, text, can_resume):
    studio, address = studio_with(disk_free_bytes=2**60 if reason == "disk-low" else 0)
    studio.jobs.set_flag("paused", reason)
    page = open_page()
    page.goto(f"{address}/gallery")
    expect(page.locator("#banner")).to_contain_text(text, timeout=PATIENCE_MS)
    resume = page.locator("#banner").get_by_role("button", name="Resume")
    expect(resume).to_have_count(int(can_resume))
    if can_resume:
        resume.click()
        expect(page.locator("#banner")).not_to_contain_text("Paused", timeout=PATIENCE_MS)


def test_a_dead_worker_is_named_and_its_job_is_marked(studio_with, open_page):
    studio, address = studio_with()
    studio.jobs.add({"prompt": "a job that runs again", "seed": 1}, most_queued=99)
    studio.jobs.claim("w", attempts=3)
    studio.jobs.release("w")
    page = open_page()
    page.goto(f"{address}/queue")
    expect(page.locator("#active li")).to_contain_text("was interrupted and runs again", timeout=PATIENCE_MS)
    expect(page.locator("#banner")).to_contain_text("worker that makes the videos does not run", timeout=PATIENCE_MS)


@pytest.mark.parametrize(
    ("name", "content", "limits", "text"),
    [
        ("big.png", png(40, 40), {"image_bytes": 1000}, "an image may have at most"),
        ("wide.png", png(64, 64), {"image_pixels": 1000}, "million pixels"),
        ("broken.png", png(64, 64)[:300], {}, "export it again"),
        ("odd.svg", b"<svg onload=alert(1)></svg>", {}, "PNG, JPEG or WebP images"),
        ("full.png", png(8, 8), {"disk_free_bytes": 2**60}, "almost full; free"),
        ("many.png", png(8, 8), {"uploads_at_once": 0}, "try again"),
    ],
)
def test_a_file_that_cannot_be_used_is_explained(studio_with, open_page, name, content, limits, text):
    _, address = studio_with(**limits)
    page = open_page(may_fail=True)
    page.goto(address)
    page.get_by_label("Image to video").check()
    file = {"name": name, "mimeType": "image/png", "buffer": content}
    page.get_by_label("Picture", exact=True).set_input_files(file)
    expect(page.locator("#toasts")).to_contain_text(text, timeout=PATIENCE_MS)


def write(page, prompt):
    page.get_by_label("Prompt").fill(prompt)
    page.get_by_role("button", name="Make video").click()


def test_a_full_queue_keeps_the_text(studio_with, open_page):
    _, address = studio_with(queued_jobs=1)
    page = open_page()
    page.goto(address)
    write(page, "the first")
    expect(page.locator("#now")).to_contain_text("the first", timeout=PATIENCE_MS)
    write(page, "the second")
    expect(page.locator("#form-error")).to_contain_text("1 jobs are waiting, and the limit is 1", timeout=PATIENCE_MS)
    expect(page.get_by_label("Prompt")).to_have_value("the second")


def test_a_locked_database_is_explained(studio_with, open_page, monkeypatch):
    monkeypatch.setattr("videocrafter.web.store.database._WAIT_S", 0.05)
    studio, address = studio_with()
    page = open_page(may_fail=True)
    page.goto(address)
    held, release = threading.Event(), threading.Event()

    def hold():
        other = Database(studio.folder.database)
        with other.writing():
            held.set()
            release.wait(600)
        other.close()

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(60)
    try:
        write(page, "a cat")
        expect(page.locator("#form-error")).to_contain_text("another program holds", timeout=PATIENCE_MS)
    finally:
        release.set()
        thread.join()
    page.get_by_role("button", name="Make video").click()
    expect(page.locator("#now")).to_contain_text("a cat", timeout=PATIENCE_MS)
    assert len(studio.jobs.waiting()) == 1


@pytest.mark.parametrize("arrives", [False, True])
def test_a_lost_server_keeps_the_text_and_makes_no_second_job(studio_with, open_page, arrives):
    studio, address = studio_with()
    page = open_page()
    page.goto(address)
    expect(page.get_by_role("button", name="Make video")).to_be_visible(timeout=PATIENCE_MS)

    def lose(route):
        if arrives and route.request.method == "POST" and route.request.url.endswith("/jobs"):
            route.fetch()  # the server has the job, and its answer is lost
        route.abort()

    page.route("**/api/v1/**", lose)
    write(page, "a cat that is not lost")
    expect(page.locator("#form-error")).to_contain_text("Your text is kept", timeout=PATIENCE_MS)
    expect(page.locator("#banner")).to_contain_text("Nothing is lost")
    page.unroute("**/api/v1/**")
    expect(page.get_by_label("Prompt")).to_have_value("a cat that is not lost")
    page.get_by_role("button", name="Make video").click()
    expect(page.locator("#now")).to_contain_text("a cat that is not lost", timeout=PATIENCE_MS)
    expect(page.locator("#banner")).not_to_contain_text("Nothing is lost", timeout=PATIENCE_MS)
    assert len(studio.jobs.waiting()) == 1


def test_two_tabs_show_the_same(studio_with, open_page):
    studio, address = studio_with()
    jobs = [studio.jobs.add({"prompt": f"job {index}", "seed": index}, most_queued=9)[0].id for index in range(3)]
    one, other = open_page(), open_page()
    for page in (one, other):
        page.goto(f"{address}/queue")
        expect(page.locator("#active li")).to_have_count(3, timeout=PATIENCE_MS)
    one.get_by_role("button", name="Make first: job 2").click()
    expect(other.locator("#active li").first).to_contain_text("job 2", timeout=PATIENCE_MS)
    other.get_by_role("button", name="Cancel: job 0").click()
    expect(one.locator("#active li")).to_have_count(2, timeout=PATIENCE_MS)
    one.get_by_role("button", name="Pause").click()
    expect(other.get_by_role("button", name="Resume").first).to_be_visible(timeout=PATIENCE_MS)
    assert [job.id for job in studio.jobs.waiting()] == [jobs[2], jobs[1]]


def test_a_page_without_events_follows_all_the_same(studio_with, open_page):
    studio, address = studio_with(event_streams=0)
    page = open_page()
    page.goto(f"{address}/queue")
    expect(page.locator("#active")).to_contain_text("Nothing waits", timeout=PATIENCE_MS)
    studio.jobs.add({"prompt": "a late job", "seed": 1}, most_queued=9)
    expect(page.locator("#active li")).to_contain_text("a late job", timeout=PATIENCE_MS)


def test_a_comparison_that_is_sent_again_makes_no_second_video(studio_with, open_page):
    studio, address = studio_with()
    page = open_page()
    page.goto(f"{address}/compare")
    page.get_by_label("Prompts, one per line").fill("a cat\na dog")
    sent = []

    def lose_the_second(route):
        sent.append(route.request.headers["idempotency-key"])
        if len(sent) == 2:
            route.fetch()  # the server has the job, and its answer is lost
            route.abort()
        else:
            route.continue_()

    page.route("**/api/v1/jobs", lose_the_second)
    page.get_by_role("button", name="Make 4 videos").click()
    expect(page.locator("#grid-error")).to_contain_text("Your text is kept", timeout=PATIENCE_MS)
    page.get_by_role("button", name="Make 4 videos").click()
    expect(page.locator("#pending-state")).to_contain_text("4 of 4", timeout=PATIENCE_MS)
    assert len(studio.jobs.waiting()) == 4
    assert len(sent) == 5
    assert sent[1] == sent[2]


def test_a_suggestion_that_is_sent_again_makes_no_second_job(studio_with, open_page):
    studio, address = studio_with()
    fail(studio, "out-of-memory", "there is not enough memory", suggestions=[{"num_frames": 8}])
    page = open_page()
    page.goto(f"{address}/queue")

    def lose(route):
        if route.request.method == "POST":
            route.fetch()
            route.abort()
        else:
            route.continue_()

    page.route("**/api/v1/jobs", lose)
    button = page.get_by_role("button", name="Try again with num_frames 8")
    button.click()
    expect(page.locator("#toasts")).to_contain_text("does not answer", timeout=PATIENCE_MS)
    page.unroute("**/api/v1/jobs")
    button.click()
    expect(page.locator("#active li")).to_have_count(1, timeout=PATIENCE_MS)
    assert len(studio.jobs.waiting()) == 1


def test_undo_brings_back_all_cancelled_jobs_also_the_running_one(studio_with, open_page):
    studio, address = studio_with()
    for index in range(3):
        studio.jobs.add({"prompt": f"job {index}", "seed": index}, most_queued=9)
    studio.jobs.claim("w", attempts=3)
    page = open_page()
    page.goto(f"{address}/queue")
    expect(page.locator("#active li")).to_have_count(3, timeout=PATIENCE_MS)
    page.get_by_role("button", name="Cancel all").click()
    page.get_by_role("button", name="Undo").click()
    expect(page.locator("#toasts")).to_contain_text("3 jobs run again", timeout=PATIENCE_MS)
    assert [(job.state, job.cancel_requested) for job in studio.jobs.waiting()] == [
        ("running", False),
        ("queued", False),
        ("queued", False),
    ]


def test_jobs_that_find_no_place_in_the_queue_are_counted(studio_with, open_page):
    studio, address = studio_with(queued_jobs=1)
    for code in ("x", "y"):
        fail(studio, code, "a message")
    page = open_page()
    page.goto(f"{address}/queue")
    page.get_by_role("button", name="Retry failed").click()
    expect(page.locator("#toasts")).to_contain_text("1 of 2 jobs run again. 1 jobs are waiting", timeout=PATIENCE_MS)


def test_the_bin_is_emptied(studio_with, open_page):
    studio, address = studio_with()
    for number in range(2):
        studio.jobs.add({"prompt": "x", "seed": 1}, most_queued=9)
        job = studio.jobs.claim("w", attempts=3)
        values = {"prompt": f"video {number}", "model": "tiny", "request": {}, "recording": {}, "workload": "x"}
        values |= {"width": 16, "height": 16, "num_frames": 2, "playback_fps": 8.0, "num_bytes": 1, "seconds": 1.0}
        studio.videos.add(Video(id=f"{number:032x}", job=job.id, number=0, **values), "w")
        studio.jobs.finish(job.id, "w", "done")
        studio.videos.set_deleted(f"{number:032x}", True)
    page = open_page()
    page.on("dialog", lambda dialog: dialog.accept())
    page.goto(f"{address}/gallery")
    empty = page.get_by_role("button", name="Empty the bin")
    expect(empty).to_be_hidden()
    page.get_by_label("Bin", exact=True).check()
    page.get_by_role("button", name="Open: video 0").click()
    page.get_by_role("button", name="Delete for good").click()
    expect(page.locator(".card")).to_have_count(1, timeout=PATIENCE_MS)
    empty.click()
    expect(page.get_by_text("The bin is empty.")).to_be_visible(timeout=PATIENCE_MS)
    assert studio.videos.ids() == set()


def test_a_closed_live_page_leaves_no_job(studio_with, open_page):
    studio, address = studio_with()
    page = open_page()
    page.goto(f"{address}/live")
    expect(page.get_by_label("Model")).not_to_have_value("", timeout=PATIENCE_MS)
    sent = []
    page.on("request", lambda request: sent.append(request.url) if request.method == "PUT" else None)
    page.get_by_label("Prompt").fill("a cat that nobody waits for")
    expect(page.locator("#live-state")).to_have_text("Waiting for the queue…", timeout=PATIENCE_MS)
    page.goto(f"{address}/gallery")
    # Nor does a request of it that comes late.
    wait_for(lambda: page.request.put(sent[0], data={"prompt": "late"}).status == 409)
    assert studio.jobs.claim("w", attempts=3) is None


def test_settings_that_are_not_here_are_named(studio_with, open_page):
    _, address = studio_with()
    page = open_page()
    page.goto(address)
    page.evaluate(
        """sessionStorage.setItem("reuse", JSON.stringify(
            { prompt: "a cat", model: "gone", loras: [{ name: "style", weight: 1 }] }))"""
    )
    page.reload()
    expect(page.locator("#toasts")).to_contain_text("The model gone is not here", timeout=PATIENCE_MS)
    expect(page.locator("#toasts")).to_contain_text("The LoRA style is not here; it is left out.")


def test_a_job_is_edited_with_one_prompt(studio_with, open_page):
    studio, address = studio_with()
    job, _ = studio.jobs.add({"prompt": "a cat", "seed": 1}, most_queued=9)
    page = open_page()
    page.goto(f"{address}/?edit={job.id}")
    expect(page.get_by_role("button", name="Save changes")).to_be_visible(timeout=PATIENCE_MS)
    expect(page.locator("#batch")).to_be_hidden()


def test_a_busy_server_makes_no_input_of_our_own_file(studio_with, open_page):
    _, address = studio_with(uploads_at_once=0)
    page = open_page()
    page.goto(f"{address}/queue")
    page.evaluate(
        """() => {
            const data = new DataTransfer();
            data.items.add(new File(["x"], "ours.mp4"));
            const settings = { dataTransfer: data, bubbles: true, cancelable: true };
            document.body.dispatchEvent(new DragEvent("drop", settings));
        }"""
    )
    expect(page.locator("#toasts .toast")).to_have_count(1, timeout=PATIENCE_MS)
    expect(page.locator("#toasts")).to_contain_text("try again")


def test_settings_that_fit_are_offered_before_the_start(studio_with, open_page):
    _, address = studio_with()
    page = open_page()
    found = {"needed_bytes": 2**33, "available_bytes": 2**32, "fits": False, "seconds": None}
    found["suggestions"] = [{"batch_size": 1}, {"num_frames": 8, "batch_size": 1}]
    page.route("**/api/v1/estimate", lambda route: route.fulfill(json=found))
    page.goto(address)
    page.get_by_label("Prompt").fill("a cat")
    page.locator("#estimate").get_by_role("button", name="Use num_frames 8").click(timeout=PATIENCE_MS)
    expect(page.get_by_label("Frames")).to_have_value("8")
