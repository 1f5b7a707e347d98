"""A served model and clients' videos: one that is slow, hostile or no longer waited for keeps nobody else waiting."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

from t2t.core.errors import T2TError
from t2t.integrations.mlflow.serving import ROOT, SECONDS, Served
from tests.helpers.pictures import slow_gif
from tests.helpers.serving import TOPICS, picture, student_folder


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Served:
    monkeypatch.setenv(ROOT, str(tmp_path / "videos"))
    monkeypatch.setenv(SECONDS, "4")
    picture(tmp_path / "videos" / "a.png")
    slow_gif(tmp_path / "videos" / "slow.gif")
    return Served(student_folder(tmp_path / "student"), {})


def test_a_slow_video_keeps_no_other_client_waiting(served: Served) -> None:
    said: list[str] = []

    def slow() -> None:
        with pytest.raises(T2TError) as caught:
            served.answer([{"video": "slow.gif", "topics": TOPICS}])
        said.append(str(caught.value))

    served.answer([{"video": "a.png", "topics": TOPICS}])
    clients = [threading.Thread(target=slow) for _ in range(2)]
    for client in clients:
        client.start()
    time.sleep(0.5)
    answers = [served.answer([{"video": "a.png", "topics": TOPICS}]) for _ in range(3)]
    assert len(answers[-1][0]["confidences"]) == len(TOPICS)
    # Both were still being decoded meanwhile, and are given up in time.
    assert said == []
    for client in clients:
        client.join(30)
    assert said == ["row 0: slow.gif: decoding takes more than 4 s (limits.seconds in the dataset's YAML file)."] * 2


def test_a_playlist_and_a_pattern_read_nothing_else(served: Served) -> None:
    folder = Path(str(served.root))
    os.mkfifo(folder / "pipe.ts")
    (folder / "list.m3u8").write_text("#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\npipe.ts\n#EXT-X-ENDLIST\n")
    with pytest.raises(T2TError, match=r"row 0: list.m3u8: a playlist \(hls\), not a video or image\."):
        served.answer([{"video": "list.m3u8", "topics": TOPICS}])
    outside = picture(folder.parent / "1.png")
    os.symlink(outside, folder / "x1.png")
    (folder / "x%d.png").write_bytes(b"")
    with pytest.raises(T2TError, match="the file is empty"):
        served.answer([{"video": "x%d.png", "topics": TOPICS}])


def test_seconds_that_are_none_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = student_folder(tmp_path / "student")
    for wrong in ("soon", "0", "nan"):
        monkeypatch.setenv(SECONDS, wrong)
        with pytest.raises(T2TError, match=f"{SECONDS} is '{wrong}'; write the seconds"):
            Served(folder, {})
