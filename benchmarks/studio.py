"""Measure the studio: start, idle load, answers under load, events, recovery, memory, and what watchers cost.

    python -m benchmarks.studio

Everything runs on the loopback interface of this machine against a studio in a temporary folder, and ends by itself.
On a busy machine all times grow: compare each with the column "without load", measured next to it, or read the
processor times.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median

import httpx

from benchmarks.report import Report, add_report_arguments, machine, publish
from videocrafter.web.maintenance import recover
from videocrafter.web.store.videos import Video
from videocrafter.web.studio import Studio, StudioConfig

PATIENCE_S = 600
QUICK = {"preset": "draft", "num_inference_steps": 4, "seed": 1}
VIDEO = {
    "model": "tiny-t2v",
    "request": {"prompt": "x"},
    "recording": {"prompt": "x", "seed": 1},
    "width": 64,
    "height": 64,
}
VIDEO |= {"num_frames": 8, "playback_fps": 8.0, "num_bytes": 1000, "seconds": 1.0, "workload": "x"}


class Server:
    """A studio in a process of its own."""

    def __init__(self, data: Path) -> None:
        self.data = data
        began = time.perf_counter()
        command = [sys.executable, "-m", "videocrafter", "studio", "--data", str(data), "--port", "0"]
        command += ["--limit", "queued_jobs=100000", "--limit", "disk_free_bytes=0"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        found = re.search(r"http://127.0.0.1:\d+", self.process.stdout.readline())
        assert found is not None, "the studio did not start"
        self.address = found[0]
        self.client = httpx.Client(base_url=f"{self.address}/api/v1/", timeout=PATIENCE_S)
        until(lambda: httpx.get(self.address).status_code == 200)
        self.first_page_s = time.perf_counter() - began
        self.first_page_cpu_s = self.cpu_seconds(workers=False)

    def wait_for_worker(self) -> None:
        """Wait until a job is done: the worker is up, and its model is loaded."""
        job = self.client.post("jobs", json={"prompt": "a cat", **QUICK}).json()["id"]
        until(lambda: self.client.get(f"jobs/{job}").json()["state"] == "done")

    def stop(self) -> None:
        self.client.close()
        self.process.send_signal(signal.SIGINT)
        self.process.wait(60)

    def rss_mb(self) -> float:
        """Return the memory of the server without its worker."""
        text = Path(f"/proc/{self.process.pid}/status").read_text()
        found = re.search(r"VmRSS:\s+(\d+) kB", text)
        assert found is not None
        return int(found[1]) / 1000

    def cpu_seconds(self, workers: bool = True) -> float:
        """Return the processor time of the server so far, and of its workers."""
        tasks = Path(f"/proc/{self.process.pid}/task").glob("*/children")
        children = [int(pid) for task in tasks for pid in task.read_text().split()] if workers else []
        pids = [self.process.pid, *children]
        ticks = 0
        for pid in pids:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")


def until(condition: Callable[[], bool]) -> None:
    """Wait until a condition holds."""
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        try:
            if condition():
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.02)
    raise TimeoutError("the studio did not answer in time")


def p95(values: Sequence[float]) -> float:
    """Return the 95th percentile."""
    return sorted(values)[int(0.95 * (len(values) - 1))]


def idle_share(server: Server, seconds: float) -> float:
    """Return the share of one core that server and worker take without work."""
    time.sleep(2)
    before = server.cpu_seconds()
    time.sleep(seconds)
    return (server.cpu_seconds() - before) / seconds


async def post_jobs(server: Server, count: int, per_second: float) -> list[float]:
    """Queue jobs at a steady rate; return the seconds until each answer."""
    async with httpx.AsyncClient(base_url=f"{server.address}/api/v1/", timeout=PATIENCE_S) as client:

        async def post(number: int) -> float:
            await asyncio.sleep(number / per_second)
            began = time.perf_counter()
            answer = await client.post("jobs", json={"prompt": f"prompt {number}", "seed": number})
            assert answer.status_code == 201, answer.text
            return time.perf_counter() - began

        return list(await asyncio.gather(*(post(number) for number in range(count))))


def empty_answers(server: Server, count: int) -> list[float]:
    """Ask whether the studio is there, one time after the other; return the seconds until each answer."""
    seconds = []
    for _ in range(count):
        began = time.perf_counter()
        server.client.get("health")
        seconds.append(time.perf_counter() - began)
    return seconds


def gallery_pages(server: Server, count: int) -> list[float]:
    """Read pages of 60 one after the other; return the seconds of each."""
    seconds, after = [], None
    for _ in range(count):
        began = time.perf_counter()
        page = server.client.get("videos", params={"limit": 60, **({"after": after} if after else {})}).json()
        seconds.append(time.perf_counter() - began)
        assert len(page["videos"]) == 60
        after = page["next"]
    return seconds


async def event_lags(server: Server, streams: int, count: int) -> list[float]:
    """Write progress twice per second as a worker does; return the seconds until each stream has it."""
    studio = Studio(StudioConfig(data=server.data))
    job, _ = studio.jobs.add({"prompt": "x"}, most_queued=10**6)
    studio.database.connection.execute(
        "UPDATE jobs SET state = 'running', owner = 'benchmark' WHERE id = ?", (job.id,)
    )
    sent: dict[int, float] = {}
    lags: list[float] = []
    ready = asyncio.Semaphore(0)

    async def read(client: httpx.AsyncClient) -> None:
        async with client.stream("GET", "events") as answer:
            ready.release()
            async for line in answer.aiter_lines():
                if line.startswith("data:") and '"step"' in line:
                    step = json.loads(line[5:])["step"]
                    lags.append(time.perf_counter() - sent[step])
                    if step == count:
                        return

    limits = httpx.Limits(max_connections=streams)
    async with httpx.AsyncClient(base_url=f"{server.address}/api/v1/", timeout=PATIENCE_S, limits=limits) as client:
        readers = [asyncio.create_task(read(client)) for _ in range(streams)]
        for _ in range(streams):
            await ready.acquire()
        for step in range(1, count + 1):
            await asyncio.sleep(0.5)
            sent[step] = time.perf_counter()
            studio.jobs.progress(job.id, "benchmark", step=step, num_steps=count, preview=step)
        await asyncio.wait_for(asyncio.gather(*readers), PATIENCE_S)
    studio.jobs.finish(job.id, "benchmark", "cancelled")
    return lags


def fill_gallery(studio: Studio, count: int) -> None:
    """Add rows of videos with the same file."""
    job, _ = studio.jobs.add({"prompt": "x"}, most_queued=10**6)
    studio.jobs.claim("w", attempts=3)
    file = studio.folder.video("0" * 32)
    file.write_bytes(b"")
    with studio.database.writing() as connection:
        for number in range(count):
            video = Video(id=f"{number:032x}", job=job.id, number=number, prompt=f"prompt {number}", **VIDEO)
            values = {name: getattr(video, name) for name in Video.__dataclass_fields__}
            values |= {"request": "{}", "recording": "{}", "created_s": float(number)}
            names = ", ".join(values)
            connection.execute(
                f"INSERT INTO videos ({names}) VALUES ({', '.join(f':{name}' for name in values)})", values
            )
            if number:
                studio.folder.video(video.id).hardlink_to(file)
    studio.jobs.finish(job.id, "w", "done")


def recovery_s(folder: Path, count: int) -> tuple[float, float]:
    """Return time and processor time to bring a queue of jobs in order after a crash, and to list it."""
    studio = Studio(StudioConfig(data=folder))
    for number in range(count):
        studio.jobs.add({"prompt": f"prompt {number}", "seed": number}, most_queued=10**6)
    studio.database.connection.execute("UPDATE jobs SET state = 'running', owner = 'dead'")
    began, began_cpu = time.perf_counter(), time.process_time()
    again = Studio(StudioConfig(data=folder))
    assert recover(again) == count
    assert len(again.jobs.waiting()) == count
    return time.perf_counter() - began, time.process_time() - began_cpu


def job_seconds(server: Server, count: int) -> float:
    """Return the median time that a job runs."""
    ids = [server.client.post("jobs", json={"prompt": "a cat", **QUICK}).json()["id"] for _ in range(count)]
    until(lambda: all(server.client.get(f"jobs/{job}").json()["state"] == "done" for job in ids))
    jobs = [server.client.get(f"jobs/{job}").json() for job in ids]
    return median(job["finished_s"] - job["started_s"] for job in jobs)


def watched_ratio(server: Server, watchers: int, jobs: int, rounds: int) -> float:
    """Return the time of a job with watchers, relative to the time without, in alternating rounds."""
    script = f"""
import httpx
from concurrent.futures import ThreadPoolExecutor
def watch(_):
    with httpx.stream("GET", "{server.address}/api/v1/events", timeout=None) as answer:
        for line in answer.iter_lines():
            pass
list(ThreadPoolExecutor({watchers}).map(watch, range({watchers})))
"""
    ratios = []
    for _ in range(rounds):
        alone = job_seconds(server, jobs)
        process = subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.DEVNULL)
        time.sleep(3)
        ratios.append(job_seconds(server, jobs) / alone)
        process.kill()
        process.wait()
    return median(ratios)


Row = tuple[str, str, str, str]


def measure(folder: Path, sizes: Mapping[str, int], repeats: int) -> Iterator[Row]:
    """Yield the rows of the table: measure, result, result without load, goal."""
    few, many = (recovery_s(folder / f"recovery {count}", count) for count in (1, sizes["recovered"]))
    yield "recover jobs", f"{many[0]:.2f} s", f"{few[0]:.2f} s (one job)", "< 2 s"
    yield "processor time of this", f"{many[1]:.2f} s", f"{few[1]:.2f} s", ""
    fill_gallery(Studio(StudioConfig(data=folder / "data")), sizes["videos"])
    server = Server(folder / "data")
    try:
        yield "first page", f"{server.first_page_s:.2f} s", "", "< 3 s"
        yield "processor time of the server until then", f"{server.first_page_cpu_s:.2f} s", "", ""
        server.wait_for_worker()
        share = 100 * idle_share(server, sizes["idle_s"])
        yield "idle, server and worker", f"{share:.1f} % of a core", "", "< 3 %"
        yield from gallery_rows(server, sizes["pages"])
        ratio = watched_ratio(server, sizes["watchers"], sizes["watched"], repeats)
        yield "a job with watchers", f"{100 * (ratio - 1):+.1f} %", "0 %", "< +5 %"
        server.client.post("queue/pause")
        one = ms(asyncio.run(event_lags(server, 1, sizes["events"])))
        lags = asyncio.run(event_lags(server, sizes["streams"], sizes["events"]))
        yield "event with preview, p95", ms(lags), f"{one} (one stream)", "< 300 ms"
        yield from post_rows(server, sizes["posts"])
        yield "memory of the server, afterwards", f"{server.rss_mb():.0f} MB", "", "< 400 MB"
    finally:
        server.stop()


def gallery_rows(server: Server, count: int) -> Iterator[Row]:
    """Yield time and processor time of pages of the gallery."""
    empty = ms(empty_answers(server, count))
    before = server.cpu_seconds(workers=False)
    seconds = gallery_pages(server, count)
    each = 1000 * (server.cpu_seconds(workers=False) - before) / count
    yield "gallery page of 60, p95", ms(seconds), f"{empty} (an empty answer)", "< 100 ms"
    yield "processor time of a gallery page", f"{each:.1f} ms", "", ""


def post_rows(server: Server, count: int) -> Iterator[Row]:
    """Yield time and processor time of new jobs, at two rates."""
    alone = ms(asyncio.run(post_jobs(server, count // 10, 2)))
    before = server.cpu_seconds(workers=False)
    seconds = asyncio.run(post_jobs(server, count, 50))
    each = 1000 * (server.cpu_seconds(workers=False) - before) / count
    yield "POST jobs at 50 per second, p95", ms(seconds), f"{alone} (2 per second)", "< 50 ms"
    yield "processor time of a POST", f"{each:.1f} ms", "", ""


def ms(seconds: Sequence[float]) -> str:
    """Return the 95th percentile as text."""
    return f"{1000 * p95(seconds):.0f} ms"


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="benchmarks.studio", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_report_arguments(parser, repeats=3)
    given = parser.parse_args(argv)
    where = machine()
    sizes = {"videos": 10_000, "pages": 100, "posts": 500, "streams": 100, "events": 20, "recovered": 1000}
    sizes |= {"idle_s": 30, "watched": 4, "watchers": 20}
    if given.smoke:
        sizes = {"videos": 200, "pages": 3, "posts": 20, "streams": 5, "events": 3, "recovered": 50}
        sizes |= {"idle_s": 1, "watched": 1, "watchers": 2}
    with tempfile.TemporaryDirectory() as folder:
        rows = []
        for row in measure(Path(folder), sizes, given.repeats):
            print(*row, sep=" | ", file=sys.stderr)  # what is known stays known if a later part fails
            rows.append(row)
    report = Report(
        name="studio",
        title="Studio",
        settings={**sizes, "repeats": given.repeats},
        columns=("measure", "result", "without load", "goal"),
        rows=rows,
        machine=where,
    )
    publish(report, given)


if __name__ == "__main__":
    main()
