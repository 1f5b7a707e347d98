"""A real Label Studio ML backend, where `label-studio-ml` is installed: it labels, and keeps to what the kit asks."""

from __future__ import annotations

import importlib.util
import subprocess
import sys

import pytest

from t2t.commands.teacher_kit import run_kit, service
from tests.helpers.programs import TOPICS, labels, samples
from tests.helpers.services import teacher

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("label_studio_ml") is None, reason="label-studio-ml is not installed"
)

BACKEND = """
import sys
from label_studio_ml.api import init_app
from label_studio_ml.model import LabelStudioMLBase
from werkzeug.serving import make_server


class Length(LabelStudioMLBase):
    def predict(self, tasks, **kwargs):
        name, info = next(iter(self.parsed_label_config.items()))
        return [
            {"result": [
                {"from_name": name, "to_name": info["to_name"][0], "type": "choices", "value": {"choices": [label]},
                 "score": len(label) % 10 / 10} for label in info["labels"]
            ], "model_version": "length-1"} for task in tasks
        ]

    def fit(self, *args, **kwargs):
        return {}


server = make_server("127.0.0.1", 0, init_app(model_class=Length, model_dir=sys.argv[1]))
print(server.server_port, flush=True)
server.serve_forever()
"""


def test_a_real_backend_is_a_teacher(tmp_path, capsys):
    (tmp_path / "models").mkdir()
    command = [sys.executable, "-c", BACKEND, str(tmp_path / "models")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        assert process.stdout is not None
        url = f"http://127.0.0.1:{process.stdout.readline().strip()}"
        made = teacher(tmp_path, url, dialect="label-studio", model_version="length-1")
        expected = {(sample, topic): pytest.approx(len(topic) % 10 / 10) for sample in "abc" for topic in TOPICS}
        assert labels(made, samples()) == expected
        assert run_kit(service(url, "label-studio", "", 30, False)), capsys.readouterr().out
    finally:
        process.kill()
        process.communicate()
