"""t2t is killed at any of a program's requests: whole parts are left, the next run goes on, and no process stays."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from t2t.lake import open_lake
from tests.helpers import programs
from tests.helpers.teachers import confidences, make

DRIVER = """
import sys
from pathlib import Path
from t2t.data.dataset import DatasetConfig, read_dataset
from t2t.lake import open_lake
from t2t.teachers import TeacherContext, build, parse_entry
from t2t.teachers.register import Registrar

data, work = Path(sys.argv[1]), Path(sys.argv[2])
dataset = read_dataset(DatasetConfig(name="tiny", root="tiny"), data)
entry = {"id": "vendor", "kind": "command", "command": ["python3", "-S", "teacher.py"], "files": ["teacher.py"],
         "part_samples": 1, "environment": ["T2T_TEST_PID"], "writable": [str(data)]}
import os
os.environ["T2T_TEST_PID"] = str(os.getpid())
teacher = build(parse_entry(entry, "entry"), TeacherContext(dataset, work))
Registrar(open_lake("git", work), dataset, work).register(teacher, dataset.samples, dataset.topics)
"""
# Which request t2t is killed at stands in a file; a line is kept of each sample that was asked about.
BODY = """
log = {log!r}
sample = asked["samples"][0]["sample_id"]
with open(log, "a") as file:
    file.write(sample + " " + str(os.getpid()) + "\\n")
if os.path.exists(log + ".kill-" + sample):
    os.remove(log + ".kill-" + sample)
    say(sample_id=sample, topic=asked["topics"][0], confidence=0.1)
    os.kill(int(os.environ["T2T_TEST_PID"]), 9)
    time.sleep(1000)
answer(ord(sample) / 1000)
"""


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except OSError:
        return False


@programs.needs_landlock
def test_a_kill_at_any_request_leaves_whole_parts_and_no_process(tmp_path):
    data, work, log = tmp_path / "data", tmp_path / "work", tmp_path / "data" / "log"
    dataset = make(data)
    programs.python(dataset.root, BODY.format(log=str(log)))
    for sample in "abc":
        Path(f"{log}.kill-{sample}").touch()
    for killed in (True, True, True, False):
        done = subprocess.run([sys.executable, "-c", DRIVER, str(data), str(work)], capture_output=True, text=True)
        assert done.returncode == (-signal.SIGKILL if killed else 0), done.stderr
    asked = [line.split() for line in log.read_text().splitlines()]
    # Each sample's part was cut off once, and asked for again; what was whole was never asked again.
    assert [sample for sample, _ in asked] == ["a", "a", "b", "b", "c", "c"]
    until = time.monotonic() + 10
    while any(alive(int(pid)) for _, pid in asked) and time.monotonic() < until:
        time.sleep(0.05)
    assert not any(alive(int(pid)) for _, pid in asked)
    found = confidences(open_lake("git", work), "main")
    assert found == {sample: pytest.approx(ord(sample) / 1000) for sample in "abc"}
    assert not any(name.startswith("labeling") for name in os.listdir(work))
