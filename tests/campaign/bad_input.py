"""The rows of bad input that tests run through: what people and other programs get wrong, and what is said of it.

docs/bad-input.md has the same in words.
"""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch
from PIL import Image
from safetensors.torch import load_file

from t2t.data.dataset import Dataset, read_dataset
from t2t.students.text import fit_tokenizer
from tests.helpers.datasets import make

Damage = Callable[[Path], Any]

HEADER = b"sample_id,topic,annotator,relevance\n"
LABELS = "sample_id,topic,confidence\n"


def dataset_of(folder: Path, **files: bytes) -> Dataset:
    """The dataset of tests/helpers/datasets.py with some files' content replaced, read."""
    config = make(folder)
    for name, content in files.items():
        (folder / "tiny" / f"{name}.{'txt' if name == 'topics' else 'csv'}").write_bytes(content)
    return read_dataset(config, folder)


# -- tables ----------------------------------------------------------------------------------------------------------

# An annotations file of another program, and what is said of it.
TABLES: list[tuple[bytes, str]] = [
    (HEADER.replace(b",", b";") + b"a;red circle;x;high\n", "row 2, column 'relevance': 'high' is not a number."),
    (b"sep=;\n" + HEADER.replace(b",", b";") + b"a;red circle;x\n", "row 3: 3 cells, but the header has 4."),
    (HEADER.strip() + b",,\na,red circle,x,1,,y\n", "row 2: a value in cell 6, and the header has no name for it."),
    ((HEADER + b"a,red circle,x,1\n").decode().encode("utf-16"), "it is UTF-16 text; save it as CSV in UTF-8"),
    (b"PAR1" + bytes(range(200)) + b"PAR1", "it is a Parquet file; give it the ending .parquet"),
    (b"PK\x03\x04" + bytes(100), "it is a zip file, perhaps a spreadsheet; save it as CSV"),
    (b"\x1f\x8b\x08" + bytes(100), "it is compressed by gzip; unpack it"),
    (b"a,red circle,x,1\nb,red circle,x,1\n", "column 'sample_id' is missing. Known: 1, a, red circle, x."),
    (HEADER.replace(b"topic", b" Topic") + b"a,red circle,x,1\n", "is missing. Did you mean ' Topic'?"),
    (HEADER + b'a,red circle,x,"0,5"\n', "row 2, column 'relevance': '0,5' is not a number. Write 0.5."),
    (HEADER + b"a,red circle,x,50%\n", "row 2, column 'relevance': '50%' is not a number. Write 0.5 for 50 %."),
    (HEADER + b'a,"red circle,x,1\nb,red circle,x,1\n', "row 2: 2 cells, but the header has 4."),
    (HEADER + b'a,"red\ncircle",x,1\n', "unknown topic 'red\\ncircle'. It differs from 'red circle' in spaces"),
    (HEADER + b"a\x00,red circle,x,1\n", "unknown sample 'a\\x00'. Did you mean 'a'?"),
]

# Columns of an annotations file in Parquet, and what is said of them.
PARQUET: list[tuple[dict[str, Any], str]] = [
    ({"relevance": [{"a": 1}]}, "row 1, column 'relevance': {'a': 1} is not a number."),
    ({"relevance": pa.nulls(1)}, "row 1, column 'relevance': is empty."),
    ({"annotator": pa.array([b"\xff"])}, "row 1, column 'annotator': b'\\xff' is not a string."),
    ({"annotator": [1.0]}, "row 1, column 'annotator': 1.0 is not a string. Write names as text."),
    ({"annotator": [True]}, "row 1, column 'annotator': True is not a string. Write names as text."),
    ({"annotator": pa.array([0], pa.timestamp("s"))}, "datetime.datetime(1970, 1, 1, 0, 0) is not a string."),
    ({"annotator": pa.array([""], pa.string_view())}, "row 1, column 'annotator': is empty."),
    ({"annotator": pa.array([""], pa.large_string())}, "row 1, column 'annotator': is empty."),
    ({"annotator": pa.array([b""])}, "row 1, column 'annotator': is empty."),
    ({"annotator": pa.array([""]).dictionary_encode()}, "row 1, column 'annotator': is empty."),
    ({"annotator": pa.array([None], pa.string_view())}, "row 1, column 'annotator': is empty."),
    ({"note": pa.array(["x"], pa.string_view()), "relevance": [2.0]}, "2.0 is not a number from 0 to 1"),
]

# Cells of a sample, the column that is at fault, and what is said of it.
SAMPLES: list[tuple[dict[str, Any], str, str]] = [
    ({"path": "clips/a\x00.mp4"}, "path", "'clips/a\\x00.mp4': not a path that can be read: embedded null byte."),
    ({"path": "c/" * 3000}, "path", "not a path that can be read: File name too long."),
    ({"path": "clips/loop"}, "path", "not a path that can be read: Symlink loop"),
    ({"path": "file://server/a.mp4"}, "path", "files of another machine (server) cannot be read; copy them here."),
    ({"path": "file://[x/a.mp4"}, "path", "not a path that can be read: Invalid IPv6 URL."),
    ({"path": "s3://bucket/a.mp4"}, "path", "allowed schemes are file."),
    ({"path": "clips\\a.mp4"}, "path", "no such file."),
    ({"sample_id": " a"}, "sample_id", "' a' has blanks at its ends."),
    ({"sample_id": "  "}, "sample_id", "'  ' has blanks at its ends."),
    ({"sample_id": "x\ny"}, "sample_id", "'x\\ny' has the control character U+000A in it."),
    ({"group": "g1 "}, "group", "'g1 ' has blanks at its ends."),
]

# A topics file, and what is said of it.
TOPICS = [
    ("red circle\ncafé\ncafe\u0301\n", "row 3: topic 'café' differs from 'café' in row 2 in spaces or"),
    ("red  circle\nred circle\n", "row 2: topic 'red circle' differs from 'red  circle' in row 1 in spaces"),
    ("red circle\nred\u00a0circle\n", "row 2: topic 'red\\xa0circle' differs from 'red circle' in row 1"),
    ("red circle\nred\u200b circle\n", "row 2: topic 'red\\u200b circle' differs from 'red circle' in row 1"),
    ("red circle\nred\x00circle\n", "row 2: topic 'red\\x00circle' has the control character U+0000 in it."),
    ("red circle\nred\u2028blue\n", "row 2: topic 'red\\u2028blue' has the control character U+2028 in it."),
    ("red circle\n" + "x" * 1001 + "\n", "row 2: a topic of 1,001 characters; 1,000 are the most."),
    (" \n\t\n", "topics.txt: no topics; write one a line."),
]

# -- YAML -------------------------------------------------------------------------------------------------------------

MINIMAL = "name: c\ndataset: d\nencoder: {kind: pixels}\n"

BOMB = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 10)}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)

# What follows MINIMAL in a campaign's file (or a whole file, as bytes), and what is said of it.
YAML: list[tuple[str | bytes, str]] = [
    ("seed: 1\nseed: 2\n", "c.yaml: key 'seed' stands twice, in line 4 and in line 5."),
    ("training: {steps: 1, loss: bce, steps: 2}\n", "key 'steps' stands twice, in line 4 and in line 4."),
    ("training: &a\n  task_weight: *a\n", "the anchor in line 4 holds itself"),
    (BOMB, "more than 1,000,000 values; do anchors hold anchors?"),
    ("description: " + "[" * 800 + "]" * 800 + "\n", "nested too deeply"),
    ("training:\n\tsteps: 1\n", "line 5: found character '\\t' that cannot start any token"),
    ("training: [1\n", "not readable as YAML: line 5: expected ',' or ']'"),
    ("--- \na: 1\n", "but found another document"),
    ("description: !!python/object/apply:os.system ['true']\n", "could not determine a constructor for the tag"),
    ('description: "a\0b"\n', "special characters are not allowed"),
    ("? [a]\n: x\n", "found unhashable key"),
    ("a: [" + "x, " * 50_000 + "]\n", "not readable as YAML: more than 50,000 values are written in it."),
    ("# " + "x" * (1 << 20) + "\n", "not readable as YAML: 1,048,577 characters, more than 1,048,576."),
    ("1: x\n", "unknown key '1'."),
    ("teachers:\n", "key 'teachers': Input should be a valid tuple (found None)."),
    ("teachers: vendor\n", "key 'teachers': Input should be a valid tuple (found 'vendor')."),
    ("training: {learning_rate: .inf}\n", "'training.learning_rate': Input should be a finite number (found inf)."),
    ("training: {task_weight: {human: .nan}}\n", "'training.task_weight.human': Input should be a finite number"),
    (
        "training: {task_weight: {human: -1}}\n",
        "'training.task_weight.human': Input should be greater than or equal",
    ),
    ("description: " + str(["x" * 500]) + "\n", "key 'description': Input should be a valid string (found ['xxx"),
    (MINIMAL.encode("utf-16"), "can't decode byte 0xff in position 0: invalid start byte. Save it as UTF-8."),
]

# A `--set`, and what is said of it.
SETTINGS = [
    ("seed={a: 1, a: 2}", "--set 'seed={a: 1, a: 2}': key 'a' stands twice, in line 1 and in line 1."),
    ("seed=!!python/name:os.system", "not readable as YAML: line 1: could not determine a constructor"),
    ("training=5", "key 'training': Input should be a valid dictionary"),
    ("training..steps=5", "unknown key 'training.'"),
    ("training.steps=", "key 'training.steps': Input should be a valid integer (found None)."),
]

# -- checkpoints ------------------------------------------------------------------------------------------------------


def write_json(path: Path, **changes: Any) -> None:
    content = json.loads(path.read_text()) | changes
    path.write_text(json.dumps(content))


def bring_code(folder: Path, file: str, kind: str, **changes: Any) -> None:
    """A tokenizer or an encoder that wants code of its own to be run."""
    write_json(folder / file, auto_map={kind: ["own.Own", None] if "Tok" in kind else "own.Own"}, **changes)
    (folder / "own.py").write_text(f"open({str(folder / 'ran')!r}, 'w')\nclass Own: pass\n")


OWN_TOKENIZER = ("tokenizer_config.json", "AutoTokenizer")


class Opened:
    """What a pickle can do when it is opened."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def pickle_weights(folder: Path) -> None:
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def cut_weights(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-50])


# What is done to a student's folder, and what is said of it.
CHECKPOINTS: list[tuple[Damage, str]] = [
    (lambda f: (f / "model.safetensors").write_bytes(pickle.dumps(Opened(f / "ran"))), "weights cannot be read"),
    (lambda f: torch.save({"a": Opened(f / "ran")}, f / "model.safetensors"), "weights cannot be read"),
    (lambda f: write_json(f / "config.json", input_dim=0), "'input_dim': Input should be greater than or equal"),
    (lambda f: write_json(f / "config.json", input_dim=10**15), "'input_dim': Input should be less than or equal"),
    (
        lambda f: write_json(f / "config.json", input_dim=7),
        "weights cannot be read: Error(s) in loading state_dict",
    ),
    (lambda f: write_json(f / "config.json", teachers=[]), "'teachers': List should have at least 1 item"),
    (lambda f: write_json(f / "config.json", teachers=["human"] * 3), "teachers: an identity stands twice."),
    (lambda f: write_json(f / "config.json", text_encoder={}), "no text encoder can be made of it: KeyError"),
    (lambda f: write_json(f / "config.json", text_encoder={"model_type": "gpt2"}), "no text encoder can be made"),
    (lambda f: (f / "config.json").write_text("[" * 100_000), "not a checkpoint of a student"),
    (lambda f: (f / "tokenizer/tokenizer.json").write_text("{"), "tokenizer: the tokenizer cannot be read"),
    (lambda f: (f / "tokenizer/tokenizer.json").write_text("{}"), "tokenizer: the tokenizer cannot be read"),
    (lambda f: (f / "tokenizer/tokenizer_config.json").write_text("[]"), "tokenizer: the tokenizer cannot be read"),
    (
        lambda f: bring_code(f / "tokenizer", *OWN_TOKENIZER, tokenizer_class="Own"),
        "tokenizer: the tokenizer cannot be read",
    ),
    (
        lambda f: fit_tokenizer(["x"]).save_pretrained(f / "tokenizer"),
        "weights cannot be read: Error(s) in loading",
    ),
]
CHECKPOINTS_NAMES = [
    *("pickle", "torch.save", "no width", "absurd width", "another width", "no identities", "twice", "no type"),
    *("no text encoder", "deep", "broken", "empty", "a list", "code", "another tokenizer"),
]

# What is done to a pretrained text encoder's folder, and what is said of it.
TEXT_ENCODERS: list[tuple[Damage, str]] = [
    (pickle_weights, "Its weights are pickled (.bin); save them as safetensors."),
    (cut_weights, "cannot be read: Error while deserializing header"),
    (lambda f: write_json(f / "config.json", hidden_size=32), "cannot be read: "),
    (lambda f: write_json(f / "config.json", num_hidden_layers=3), "of the encoder's weights (encoder.layer."),
    (lambda f: (f / "config.json").write_text("{"), "cannot be read: "),
    (lambda f: (f / "config.json").write_text('{"model_type": "nonesuch"}'), "cannot be read: "),
    (lambda f: bring_code(f, "config.json", "AutoConfig", model_type="own"), "cannot be read: "),
]
TEXT_ENCODERS_NAMES = ["pickled", "cut", "another shape", "layers missing", "broken config", "unknown type", "code"]

# -- media ------------------------------------------------------------------------------------------------------------


def playlist(path: Path) -> None:
    path.write_text("#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nother.mp4\n#EXT-X-ENDLIST\n")


# An image's mode, file, colour, and the colour that is read.
IMAGES: list[tuple[str, str, Any, tuple[int, int, int]]] = [
    ("L", "grey.png", 100, (100, 100, 100)),
    ("1", "black-and-white.png", 1, (255, 255, 255)),
    ("P", "palette.png", 1, (200, 30, 10)),
    ("RGBA", "transparent.png", (200, 30, 10, 51), (244, 210, 206)),
    ("LA", "grey-transparent.png", (90, 0), (255, 255, 255)),
    ("I;16", "sixteen-bit.png", 40_000, (156, 156, 156)),
    ("CMYK", "print.jpg", (0, 255, 255, 0), (254, 0, 0)),
]

# A file, what writes it, and what is said of it.
NO_VIDEOS: list[tuple[str, Damage, str]] = [
    ("notes.mp4", lambda path: path.write_text("no video\n" * 50), "not readable as video or image: invalid data"),
    ("notes.txt", lambda path: path.write_text("no video\n" * 50), "(it is a text)"),
    (
        "list.mp4",
        lambda path: path.write_text("ffconcat version 1.0\nfile other.mp4\n"),
        "a playlist (concat), not a",
    ),
    ("list.m3u8", playlist, "a playlist (hls), not a video or image"),
    (
        "zip.mp4",
        lambda path: path.write_bytes(b"PK\x03\x04" + bytes(500)),
        "not readable as video or image: invalid",
    ),
    ("float.tif", lambda path: Image.new("F", (9, 9), 0.5).save(path), "no frame could be decoded"),
    ("pipe.mp4", os.mkfifo, "not a file"),
]
NO_VIDEOS_NAMES = ["text", "text drawn", "list", "playlist", "zip", "floating point", "pipe"]
