"""Samples on an object store, against moto's server, which speaks S3's protocol."""

from __future__ import annotations

from pathlib import Path

import pytest

from t2t.data.remote.addresses import RemoteConfig
from t2t.data.remote.cache import Cache, Unreachable

s3fs = pytest.importorskip("s3fs", reason="the extra `remote-s3` is not installed")
server = pytest.importorskip("moto.server", reason="moto, which stands for S3 here, is not installed")


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch):
    """A bucket `clips` with one file; credentials and address are in the environment, where users have them."""
    moto = server.ThreadedMotoServer("127.0.0.1", 0)
    moto.start()
    host, port = moto.get_host_and_port()
    for name, value in {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "id",
        "AWS_SECRET_ACCESS_KEY": "SECRET",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    files = s3fs.S3FileSystem(skip_instance_cache=True)
    files.mkdir("clips")
    files.pipe("clips/a.mp4", b"first" * 1000)
    yield files
    moto.stop()


def test_an_object_is_fetched_once_and_its_change_is_noticed(bucket, tmp_path: Path):
    cache = Cache(tmp_path, RemoteConfig())
    digest = cache.sha256("s3://clips/a.mp4")
    assert cache.local("s3://clips/a.mp4").read_bytes() == b"first" * 1000
    assert Cache(tmp_path, RemoteConfig(recheck_hours=0)).sha256("s3://clips/a.mp4") == digest
    bucket.pipe("clips/a.mp4", b"other" * 1000)
    assert Cache(tmp_path, RemoteConfig()).sha256("s3://clips/a.mp4") == digest
    assert Cache(tmp_path, RemoteConfig(recheck_hours=0)).sha256("s3://clips/a.mp4") != digest
    with pytest.raises(Unreachable, match="no such file"):
        cache.sha256("s3://clips/none.mp4")
    bucket.pipe("clips/large.mp4", bytes(2 << 20))
    with pytest.raises(Unreachable, match="more than 1 MB"):
        Cache(tmp_path, RemoteConfig(megabytes=1)).sha256("s3://clips/large.mp4")
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and b"SECRET" in path.read_bytes()]
