"""Put a study server under load, and kill it while raters answer.

    python -m benchmarks.study_server
    python -m benchmarks.study_server --raters 200 --kills 50

Raters are coroutines in this process that speak HTTP over loopback: all join at once, then each repeats: read a
question, load its clips in ranges as a phone does, think, answer. The first part measures the time of each request,
and then that of a server with the same routes and constant replies, because both depend on what else the machine
does. In the second part the server is killed with SIGKILL at random moments and started again, while raters repeat
what was not acknowledged. Exit status 1 if an acknowledged answer is missing or differs, an answer was stored twice,
or the 95th percentile of all requests is above 200 ms.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.report import Report, add_output_arguments, machine, positive, publish

ROOT = Path(__file__).parents[1]
LIMIT_MS = 200.0
_SECONDS_TO_START = 600.0
_ASPECTS = ("visual_quality", "motion_quality")
_QUESTIONS = 12  # of the study whose server is killed
_FIRST_RANGE = "bytes=0-1"  # Safari asks for two bytes, then for the rest
_LOAD = {"questions": 30, "size": 256, "num_frames": 16}
_SMALL_LOAD = {"questions": 2, "size": 32, "num_frames": 4}


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="benchmarks.study_server", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--raters", type=positive, default=200, help="simultaneous raters (%(default)s)")
    parser.add_argument("--seconds", type=float, default=60.0, help="length of the load (%(default)s)")
    parser.add_argument(
        "--think", type=float, default=5.0, help="mean seconds between a question and its answer (%(default)s)"
    )
    parser.add_argument("--kills", type=int, default=50, help="number of kills (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="seed of thinking times and kills (%(default)s)")
    parser.add_argument(
        "--parts", nargs="+", choices=("load", "kills"), default=["load", "kills"], help="what to measure (both)"
    )
    parser.add_argument("--smoke", action="store_true", help="few raters, two kills")
    parser.add_argument("--bare", type=int, metavar="PORT", help=argparse.SUPPRESS)
    add_output_arguments(parser)
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    given = arguments(argv)
    if given.bare is not None:
        serve_bare(given.bare, json.loads(sys.stdin.read()))
        return
    if given.smoke:
        given.raters, given.seconds, given.think, given.kills = 4, 2.0, 0.1, min(given.kills, 2)
    described = machine()
    rows: list[tuple[object, ...]] = []
    notes: list[str] = []
    faults: list[str] = []
    p95 = 0.0
    with tempfile.TemporaryDirectory() as temporary:
        if "load" in given.parts:
            folder = make_study(Path(temporary), given.raters, **(_SMALL_LOAD if given.smoke else _LOAD))
            with server(folder) as process:
                times, spent = measured(process, given)
            with bare_server(folder) as process:
                bare, bare_spent = measured(process, given)
            rows, p95 = compared(times, bare)
            notes.append(f"{sum(map(len, times.values())) / given.seconds:.0f} requests a second")
            if spent and bare_spent:
                notes.append(
                    f"CPU time of the server: {spent:.2f} ms for each request, of the bare one {bare_spent:.2f} ms"
                )
        if "kills" in given.parts:
            study = make_study(Path(temporary) / "kills", max(20, given.kills))
            faults, num_answers = kill_repeatedly(study, given.kills, seed=given.seed)
            notes += [f"{given.kills} kills, {num_answers} acknowledged answers: {len(faults)} faults", *faults]
    publish(
        Report(
            name="study_server",
            title=f"Study server: {given.raters} raters at once",
            settings={"think, s": given.think, "seconds": given.seconds, "kills": given.kills, "seed": given.seed},
            columns=("request", "requests", "median, ms", "p95, ms", "max, ms", "p95, ratio to bare"),
            rows=rows,
            machine=described,
            notes=notes,
        ),
        given,
    )
    if faults or (p95 > LIMIT_MS and not given.smoke):
        sys.exit(1)


def measured(process: Served, given: argparse.Namespace) -> tuple[dict[str, list[float]], float | None]:
    """Return milliseconds by request under load, and the server's CPU milliseconds for each request (Linux only)."""
    before = _cpu_seconds(process.popen.pid)
    times = asyncio.run(load(process.address, given))
    after = _cpu_seconds(process.popen.pid)
    if before is None or after is None:
        return times, None
    return times, 1000.0 * (after - before) / sum(map(len, times.values()))


def _cpu_seconds(pid: int) -> float | None:
    """Return the CPU time of a process so far: fields 14 and 15 of its stat file, in ticks."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except OSError:
        return None
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def compared(
    times: Mapping[str, Sequence[float]], bare: Mapping[str, Sequence[float]]
) -> tuple[list[tuple[object, ...]], float]:
    """Return a row for each request and for all, with ratios to the bare server, and the 95th percentile of all."""
    times, bare = (
        {**one, "all": [ms for readings in one.values() for ms in readings]} for one in (dict(times), dict(bare))
    )
    rows: list[tuple[object, ...]] = []
    p95 = 0.0
    for name in times:
        ordered, reference = sorted(times[name]), sorted(bare[name])
        p95 = percentile(ordered, 0.95)
        ratio = p95 / percentile(reference, 0.95)
        rows.append((name, len(ordered), percentile(ordered, 0.5), p95, ordered[-1], ratio))
    return rows, p95


def percentile(ordered: Sequence[float], share: float) -> float:
    """Return the smallest value that at least this share of the values does not exceed."""
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def make_study(
    folder: Path, raters: int, *, questions: int = _QUESTIONS, size: int = 32, num_frames: int = 4
) -> Path:
    """Make a study of generated videos in a subfolder."""
    from videocrafter.evaluation.comparison.matching import match_videos
    from videocrafter.evaluation.study.new_study import StudySettings, make_study
    from videocrafter.evaluation.video_set import read_video_set
    from videocrafter.media.video_file import write_video

    rng = np.random.default_rng(0)
    for system in ("old", "new"):
        (folder / system).mkdir(parents=True)
        for number in range(questions):
            # Noise that moves: files of about 200 kB at 256 pixels and 16 frames, like those of detailed videos.
            noise = rng.integers(64, 192, (size // 2, size // 2, 3), np.uint8).repeat(2, axis=0).repeat(2, axis=1)
            frames = np.stack([np.roll(noise, 3 * index, axis=1) for index in range(num_frames)])
            write_video(folder / system / f"{number}.mp4", frames, 8, {"prompt": f"prompt {number}", "seed": 0})
    sets = {system: read_video_set(folder / system) for system in ("old", "new")}
    settings = StudySettings(aspects=_ASPECTS, votes_per_item=raters * 2, training_per_rater=1, checks_per_rater=2)
    make_study(match_videos(sets), list(sets), folder / "study", settings)
    return folder / "study"


@dataclass
class Served:
    """A running server."""

    popen: subprocess.Popen[bytes]
    address: tuple[str, int]


@contextmanager
def server(folder: Path) -> Iterator[Served]:
    """Run the command in a process of its own until the block ends."""
    port = _free_port()
    command = [sys.executable, "-m", "videocrafter", "study", "serve", str(folder), "--port", str(port)]
    with _running(command, port) as served:
        yield served


@contextmanager
def bare_server(folder: Path) -> Iterator[Served]:
    """Run a server with the routes of a study whose replies are constants: what FastAPI and uvicorn cost alone."""
    with server(folder) as process:
        replies = asyncio.run(_replies(process.address))
    port = _free_port()
    command = [sys.executable, "-m", "benchmarks.study_server", "--bare", str(port)]
    with _running(command, port, json.dumps(replies)) as served:
        yield served


async def _replies(address: tuple[str, int]) -> dict[str, Any]:
    """Return what the server of a study replies to one rater."""
    client = Client(address)
    joined = json.loads((await client.ask("POST", "/api/raters", {"consent": True}))[1])
    client.token = joined["token"]
    session = json.loads((await client.ask("GET", "/api/session"))[1])
    task = json.loads((await client.ask("GET", "/api/tasks/0"))[1])
    clip = (await client.ask("GET", f"/{task['clips'][0]}"))[1]
    answer = json.loads((await client.ask("PUT", "/api/tasks/0", answer_body(random.Random(0))))[1])
    client.close()
    return {"join": joined, "session": session, "task": task, "answer": answer, "clip": clip.hex()}


def serve_bare(port: int, replies: Mapping[str, Any]) -> None:
    """Serve constant replies until the process is killed."""
    import uvicorn
    from fastapi import FastAPI, Request, Response

    def constant(reply: Any) -> Callable[[], Coroutine[Any, Any, Any]]:
        async def route() -> Any:
            return reply

        return route

    app, clip = FastAPI(), bytes.fromhex(replies["clip"])
    app.post("/api/raters")(constant(replies["join"]))
    app.get("/api/session")(constant(replies["session"]))
    app.get("/api/tasks/{position}")(constant(replies["task"]))
    app.put("/api/tasks/{position}")(constant(replies["answer"]))

    async def media(request: Request) -> Response:
        return Response(clip[:2] if request.headers.get("range") == _FIRST_RANGE else clip, media_type="video/mp4")

    app.add_route("/media/{name}", media)
    uvicorn.run(
        app,
        host="127.0.0.1",
        port=port,
        access_log=False,
        log_level="warning",
        server_header=False,
        timeout_keep_alive=75,
    )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def _running(command: Sequence[str], port: int, text: str = "") -> Iterator[Served]:
    popen = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
    try:
        assert popen.stdin is not None
        popen.stdin.write(text.encode())
        popen.stdin.close()
        wait_until_open(popen, port)
        yield Served(popen, ("127.0.0.1", port))
    finally:
        popen.kill()
        popen.wait()


def wait_until_open(popen: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + _SECONDS_TO_START
    while time.monotonic() < deadline:
        if popen.poll() is not None:
            sys.exit("benchmarks.study_server: error: the server ended early")
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    sys.exit("benchmarks.study_server: error: the server did not start")


class Client:
    """A minimal HTTP client over one connection: the load generator shares the processors with the server."""

    def __init__(self, address: tuple[str, int]) -> None:
        self.address, self.token = address, ""
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, method: str, path: str, body: Any = None, *, wanted: str = "") -> tuple[int, Any]:
        """Return status and content of a reply; OSError or IncompleteReadError if there is none."""
        if self._streams is not None and self._streams[0].at_eof():
            self.close()  # the server ends connections that are idle for long, and browsers open another one
        if self._streams is None:
            self._streams = await asyncio.open_connection(*self.address)
        reader, writer = self._streams
        data = b"" if body is None else json.dumps(body).encode()
        head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(data)}\r\n"
        head += "Content-Type: application/json\r\n" + (
            f"Authorization: Bearer {self.token}\r\n" if self.token else ""
        )
        head += f"Range: {wanted}\r\n" if wanted else ""
        try:
            writer.write(head.encode() + b"\r\n" + data)
            header = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
            length = int(header.partition("content-length: ")[2].partition("\r\n")[0] or 0)
            content = await reader.readexactly(length)
        except BaseException:
            self.close()
            raise
        return int(header.split(" ", 2)[1]), content

    def close(self) -> None:
        """Close the connection."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


async def load(address: tuple[str, int], given: argparse.Namespace) -> dict[str, list[float]]:
    """Let raters answer for some seconds; return milliseconds by request."""
    times: dict[str, list[float]] = {"join": [], "session": [], "question": [], "video": [], "answer": []}
    end = time.monotonic() + given.seconds

    async def timed(name: str, client: Client, method: str, path: str, body: Any = None, wanted: str = "") -> Any:
        start = time.perf_counter()
        status, content = await client.ask(method, path, body, wanted=wanted)
        times[name].append(1000.0 * (time.perf_counter() - start))
        if status >= 300:
            sys.exit(f"benchmarks.study_server: error: {method} {path} returned {status}: {content!r}")
        return content

    async def rate(number: int) -> None:
        rng = random.Random(f"{given.seed}/{number}")
        client = Client(address)
        client.token = json.loads(await timed("join", client, "POST", "/api/raters", {"consent": True}))["token"]
        session = json.loads(await timed("session", client, "GET", "/api/session"))
        total, following = session["total"], session["next"]
        while time.monotonic() < end:
            # At the end, change the last answer again and again.
            position = min(following, total - 1)
            task = json.loads(await timed("question", client, "GET", f"/api/tasks/{position}"))
            for clip in task["clips"]:
                await timed("video", client, "GET", f"/{clip}", wanted=_FIRST_RANGE)
                await timed("video", client, "GET", f"/{clip}", wanted="bytes=0-")
            await asyncio.sleep(rng.expovariate(1.0 / given.think))
            body = answer_body(rng, task["revision"])
            reply = json.loads(await timed("answer", client, "PUT", f"/api/tasks/{position}", body))
            following = reply["next"]
        client.close()

    await asyncio.gather(*(rate(number) for number in range(given.raters)))
    return times


def answer_body(rng: random.Random, revision: int = 0) -> dict[str, Any]:
    choices = {aspect: rng.choice(["left", "right", "equal"]) for aspect in _ASPECTS}
    return {
        "answer": choices,
        "revision": revision,
        "request": f"{rng.getrandbits(64):x}",
        "seconds": 4.0,
        "plays": 1,
    }


@dataclass
class Sent:
    """What one rater was told: acknowledged answers by position, the token, and what was sent without a reply."""

    token: str = ""
    open: tuple[int, dict[str, Any]] | None = None
    acknowledged: dict[int, dict[str, str]] = field(default_factory=dict)


def kill_repeatedly(folder: Path, kills: int, *, raters: int = 8, seed: int = 0) -> tuple[list[str], int]:
    """Kill and restart a server while raters answer; return the faults and the number of acknowledged answers."""
    rng = random.Random(seed)
    sent: list[Sent] = []
    for number in range(kills):
        with server(folder) as process:
            asyncio.run(_answer_until_killed(process, sent, raters, rng.uniform(0.02, 0.6), f"{seed}/{number}"))
    with closing(sqlite3.connect(folder / "answers.sqlite3")) as database:
        return faults_in(database, sent), sum(len(one.acknowledged) for one in sent)


async def _answer_until_killed(process: Served, sent: list[Sent], raters: int, delay: float, seed: str) -> None:
    """Answer as several raters, and kill the server some seconds after its first reply to an answer."""
    stop, replied = asyncio.Event(), asyncio.Event()
    waiting = [one for one in sent if len(one.acknowledged) < _QUESTIONS]

    async def rate(number: int) -> None:
        # Raters of the last round who are not finished continue; others are new.
        rng = random.Random(f"{seed}/{number}")
        client, mine = Client(process.address), Sent()
        if number < len(waiting):
            mine = waiting[number]
        try:
            while not stop.is_set():
                if not mine.token:
                    status, content = await client.ask("POST", "/api/raters", {"consent": True})
                    if status != 201:
                        return
                    mine.token = json.loads(content)["token"]
                    sent.append(mine)
                client.token = mine.token
                if mine.open is None:
                    session = json.loads((await client.ask("GET", "/api/session"))[1])
                    if session["finished"]:
                        mine, client.token = Sent(), ""
                        continue
                    mine.open = session["next"], answer_body(rng)
                # After a kill this repeats the request whose reply was lost, whether it was stored or not.
                position, body = mine.open
                status, content = await client.ask("PUT", f"/api/tasks/{position}", body)
                assert status == 200, content
                replied.set()
                mine.acknowledged[position], mine.open = json.loads(content)["answer"], None
        except (OSError, asyncio.IncompleteReadError):
            return
        finally:
            client.close()

    tasks = [asyncio.create_task(rate(number)) for number in range(raters)]
    await asyncio.wait_for(replied.wait(), _SECONDS_TO_START)
    await asyncio.sleep(delay)
    process.popen.send_signal(signal.SIGKILL)
    stop.set()
    await asyncio.gather(*tasks)


def faults_in(database: sqlite3.Connection, sent: Sequence[Sent]) -> list[str]:
    """Compare what was acknowledged with what is stored."""
    from videocrafter.evaluation.study.store import token_hash

    faults = []
    if database.execute("PRAGMA integrity_check").fetchone()[0] != "ok":
        faults.append("the database is damaged")
    for one in sent:
        rows = database.execute(
            "SELECT position, answer, revision FROM answers JOIN raters ON raters.id = rater WHERE token_hash = ?",
            (token_hash(one.token),),
        ).fetchall()
        stored = {position: json.loads(text) for position, text, _ in rows}
        faults += [
            f"the answer to question {position} is {stored.get(position, 'lost')}, not {answer}"
            for position, answer in one.acknowledged.items()
            if stored.get(position) != answer
        ]
        faults += [f"question {position} was answered {count} times" for position, _, count in rows if count != 1]
        if sorted(stored) != list(range(len(stored))):
            faults.append(f"there are gaps between the answers {sorted(stored)}")
    return faults


if __name__ == "__main__":
    main()
