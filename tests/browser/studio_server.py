"""A real studio in processes of its own, which tests may kill."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx

SECONDS = 900
"""Most time that anything may take on a busy machine."""


class StudioServer:
    """Starts `videocrafter studio`, and starts it again after it was killed."""

    def __init__(self, data: Path, *options: str) -> None:
        self.data, self.options, self.port = data, options, 0
        self.process: subprocess.Popen[str] | None = None

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> "StudioServer":
        command = [sys.executable, "-m", "videocrafter", "studio", "--data", str(self.data), "--port", str(self.port)]
        command += ["--device", "cpu", "--limit", "disk_free_bytes=0", *self.options]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        line = self.process.stdout.readline()
        assert "http://" in line, line
        self.port = int(line.split("http://127.0.0.1:")[1].split()[0])
        wait_for(lambda: self.get("health")["status"] == "ok")
        return self

    def kill(self) -> None:
        """End the server as a crash would. Its worker must end by itself."""
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            self.process.wait(30)
        self.process.stdout.close()

    def worker_pid(self) -> int | None:
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        # The supervisor is a thread, and children are listed by thread.
        tasks = children.parent.parent.glob("*/children")
        pids = [int(pid) for task in tasks for pid in task.read_text().split()]
        for pid in pids:
            try:
                line = Path(f"/proc/{pid}/cmdline").read_bytes()
            except OSError:
                continue
            if b"spawn_main" in line:
                return pid
        return None

    def kill_worker(self) -> None:
        os.kill(self.worker_pid(), signal.SIGKILL)

    def get(self, path: str):
        return self.request("GET", path)

    def post(self, path: str, body=None):
        return self.request("POST", path, json=body or {})

    def request(self, method: str, path: str, **settings):
        answer = httpx.request(method, f"{self.address}/api/v1/{path}", timeout=60, **settings)
        answer.raise_for_status()
        return answer.json()


def wait_for(condition, seconds: float = SECONDS):
    """Return the first true value of a condition; connections may fail meanwhile."""
    end = time.monotonic() + seconds
    while True:
        try:
            value = condition()
        except (httpx.HTTPError, OSError):
            value = None
        if value:
            return value
        assert time.monotonic() < end, "it took too long"
        time.sleep(0.1)
