"""python -m tests.helpers.openai_bill CLIPS: requests, money and bytes of 200 clips x 30 topics, whole and with kills.

CLIPS: a folder with 200 clips or more, such as data/demo. Prints the table of docs/teachers/openai.md.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.helpers.openai_server import KEY, Fake, fake_server

CLIPS, TOPICS, KILLS = 200, 30, 5
PRICE = {"input": 0.15, "output": 0.6}
WAYS: dict[str, dict[str, Any]] = {
    "30 topics a request, `number`": {"topics_per_request": 30, "score": "number"},
    "the same in batch files": {"topics_per_request": 30, "score": "number", "batch": {"requests": 50, "poll": 1}},
    "one topic a request, `logprobs`": {"score": "logprobs"},
    "the same in batch files ": {"score": "logprobs", "batch": {"requests": 1000, "poll": 1}},
}


def label(work: str, url: str, clips: str, way: str) -> None:
    """One run, in a process of its own; prints rows, requests, and what is booked."""
    import pyarrow as pa

    from tests.helpers.openai_teacher import teacher

    files = sorted(Path(clips).rglob("*.mp4"))[:CLIPS]
    assert len(files) == CLIPS
    samples = pa.table({"sample_id": [f"s{i}" for i in range(CLIPS)], "path": [str(file) for file in files]})
    settings = {"columns": [], "frames": 4, "size": 384, "image_tokens": 85, "concurrency": 16, "budget": 50}
    asked = teacher(Path(work), samples, url, **settings, price=PRICE, **WAYS[way])
    rows = sum(len(table) for table in asked.label(samples, [f"topic number {i}" for i in range(TOPICS)]))
    print(json.dumps([rows, asked.kept.spent() / 1e12]))


def measure(clips: str, way: str, kills: int) -> str:
    """A row of the table."""
    draw, start, batch = random.Random(1), time.monotonic(), "batch" in WAYS[way]
    with tempfile.TemporaryDirectory() as work, fake_server() as fake:
        fake.desk.looks = 2
        command = [sys.executable, "-m", __spec__.name, work, fake.url, clips, way]
        environment = os.environ | {"OPENAI_API_KEY": KEY}
        total = CLIPS * TOPICS // WAYS[way].get("topics_per_request", 1)
        for _ in range(kills):
            process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
            steps = len(fake.desk.steps) + draw.randint(2, 12)
            until = len(fake.requests) + draw.randint(total // 20, total // 7)
            while process.poll() is None and (len(fake.desk.steps) < steps if batch else len(fake.requests) < until):
                time.sleep(0.001)
            process.kill()
            process.wait()
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        rows, booked = json.loads(done.stdout)
        kept = sum(file.stat().st_size for file in Path(work, "answers").iterdir() if file.is_file())
        counts = f"{rows:,} | {len(fake.requests):,} | {twice(fake)}"
        return (
            f"| {way.strip()} | {kills} | {counts} | {fake.bill(**BILL):.4f} | "
            f"{booked:.4f} | {fake.bytes_in / 1e6:.1f} MB | {kept / 1e6:.2f} MB | {time.monotonic() - start:.0f} s |"
        )


BILL = {"price_in": PRICE["input"], "price_out": PRICE["output"]}


def twice(fake: Fake) -> int:
    """Requests that came more than once."""
    asked = [json.dumps(body, sort_keys=True) for body in fake.requests]
    return len(asked) - len(set(asked))


if __name__ == "__main__":
    if len(sys.argv) > 2:
        label(*sys.argv[1:])
    else:
        print("| | kills | rows | requests | of these twice | billed | booked | sent | kept | time |")
        print("|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|")
        for each in WAYS:
            for count in (0, KILLS):
                print(measure(sys.argv[1], each, count), flush=True)
