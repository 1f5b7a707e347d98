"""Kind `command`: programs in several languages, and hostile ones."""

from __future__ import annotations

import os
import re
import shutil
import sys
import time
from pathlib import Path

import pytest

from t2t.core.errors import T2TError
from t2t.teachers import parse_entry
from t2t.teachers.labeling import answers
from tests.helpers import programs
from tests.helpers.documented import refused
from tests.helpers.programs import HELLO, TOPICS, labels, python, samples, teacher

pytestmark = pytest.mark.unit

SECRET = "s3cr3t-of-the-vendor"


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
def test_a_program_in_node(tmp_path):
    programs.write(tmp_path, programs.NODE, "teacher.js")
    made = teacher(tmp_path, command=["node", "teacher.js"], files=["teacher.js"])
    found = labels(made, samples("a", "bb"))
    assert found == {(sample, topic): pytest.approx(len(sample) / 10) for sample in ("a", "bb") for topic in TOPICS}


def test_rows_come_in_the_order_of_the_question_whatever_the_program_does(tmp_path):
    python(tmp_path, "pairs.reverse()\nanswer(0.75)")
    tables = list(answers(teacher(tmp_path, batch_samples=2), samples(), TOPICS))
    assert [len(table) for table in tables] == [4, 2]
    pairs = [(row["sample_id"], row["topic"]) for table in tables for row in table.to_pylist()]
    assert pairs == [(sample, topic) for sample in "abc" for topic in TOPICS]


def test_a_pair_without_a_row_has_no_label(tmp_path):
    python(tmp_path, "del pairs[1:]\nanswer()")
    assert labels(teacher(tmp_path)) == {("a", TOPICS[0]): 0.5}


def test_other_modalities_are_not_asked(tmp_path):
    python(tmp_path, hello='{"protocol": "t2t-teacher/1", "name": "x", "version": "1", "modalities": ["image"]}')
    assert list(teacher(tmp_path).label(samples(), TOPICS)) == []


FAULTS = {
    "NaN": ("answer(float('nan'))", "NaN is no number"),
    "infinite": ("say(sample_id='a', topic='red circle', confidence=float('inf'))", "Infinity is no number"),
    "huge": ("print('{\"sample_id\": \"a\", \"topic\": \"red circle\", \"confidence\": 1e999}', flush=True)",
             "confidence inf is no number"),
    "above 1": ("answer(1.5)", "confidence 1.5 is no number from 0 to 1"),
    "text": ("answer('0.5')", "confidence '0.5' is no number"),
    "true": ("answer(True)", "confidence True is no number"),
    "twice": ("pairs.append(pairs[0])\nanswer()", "answered more than once"),
    "a sample": ("pairs[0] = ('z', pairs[0][1])\nanswer()", "'z'.*not asked about this sample"),
    "a topic": ("pairs[0] = ('a', 'red circl')\nanswer()", "not asked about this topic.*Did you mean 'red circle'"),
    "no row": ("say(what=1)", "neither a row"),
    "a list": ("print('[]', flush=True)", "not one JSON object"),
    "deep": ("print('[' * 60000, flush=True)", "not one JSON object"),
    "another request": ("say(done=77, rows=0)", "done 77, but this is request 1"),
    "fewer rows": ("say(done=asked['id'], rows=9)", "`rows` is 9, but 0 rows came"),
    "its own error": ("say(error=asked['id'], message='no GPU')", "it says: no GPU"),
    "a long line": ("print('x' * 100_000_000, flush=True)", "a line of more than 65,536 bytes"),
    "a billion rows": ("while True: print('', end='{\"x\": 1, \"sample_id\": \"a\", \"topic\": \"red circle\", "
                       "\"confidence\": 0.5}\\n')", "answered more than once"),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_an_answer_against_the_protocol_is_refused(tmp_path, name):
    body, words = FAULTS[name]
    python(tmp_path, body)
    made = teacher(tmp_path)
    start = time.monotonic()
    message = refused(lambda: labels(made))
    assert time.monotonic() - start < 10
    assert message.startswith("Teacher 'mine': ")
    assert re.search(words, message)


def test_an_answer_without_end_is_refused(tmp_path):
    python(
        tmp_path,
        "filler = ' ' * 60000\nfor sample, topic in pairs:\n"
        "    print(json.dumps({'sample_id': sample, 'topic': topic, 'confidence': 0.5}) + filler, flush=True)",
    )
    made = teacher(tmp_path, answer_megabytes=1)
    message = refused(lambda: labels(made, samples(*map(str, range(30)))))
    assert "the answer is longer than answer_megabytes allows" in message


HANDSHAKES = {
    "another protocol": ('{"protocol": "t2t-teacher/9", "name": "x", "version": "1"}', "key 'protocol'"),
    "no version": ('{"protocol": "t2t-teacher/1", "name": "x"}', "key 'version'"),
    "a number": ('{"protocol": "t2t-teacher/1", "name": "x", "version": 1}', "key 'version'"),
    "no sample": ('{"protocol": "t2t-teacher/1", "name": "x", "version": "1", "max_samples": 0}', "key 'max_samples'"),
    "words": ("Loading model...", "not one JSON object"),
}


@pytest.mark.parametrize("name", HANDSHAKES)
def test_a_handshake_that_is_none_is_refused(tmp_path, name):
    hello, words = HANDSHAKES[name]
    python(tmp_path, hello=hello)
    message = refused(teacher(tmp_path).fingerprint)
    assert words in message


def test_a_program_that_hangs_is_ended(tmp_path):
    python(tmp_path, "time.sleep(1000)")
    message = refused(lambda: labels(teacher(tmp_path, timeout=0.2)))
    assert "request 1 (3 samples, 2 topics) took longer than 0.2 seconds (timeout)" in message
    assert "Tried 4 times" in message


def test_a_program_that_never_says_hello_is_ended(tmp_path):
    programs.write(tmp_path, "import time\ntime.sleep(1000)\n", "teacher.py")
    made = teacher(tmp_path, start_timeout=0.2)
    assert "its handshake took longer than 0.2 seconds (start_timeout)" in refused(made.fingerprint)


def test_a_program_that_dies_is_started_again(tmp_path):
    python(
        tmp_path, f"flag = {str(tmp_path / 'flag')!r}\nif os.path.exists(flag): os.remove(flag); os._exit(3)\nanswer()"
    )
    (tmp_path / "flag").touch()
    made = teacher(tmp_path, writable=[str(tmp_path)])
    assert len(labels(made)) == 6
    assert not (tmp_path / "flag").exists()


def test_one_that_always_dies_tells_how_and_what_it_wrote(tmp_path):
    python(tmp_path, "print('no such model: x.bin', file=sys.stderr)\nsys.exit(3)")
    message = refused(lambda: labels(teacher(tmp_path)))
    assert "exit status 3" in message
    assert "no such model: x.bin" in message


def test_retry_is_what_it_says(tmp_path):
    python(tmp_path, "say(error=asked['id'], message='busy', retry=True)")
    message = refused(lambda: labels(teacher(tmp_path)))
    assert "it says: busy" in message
    assert "Tried 4 times" in message


def test_one_that_becomes_another_meanwhile_is_refused(tmp_path):
    python(tmp_path, "os._exit(1)", '{"protocol": "t2t-teacher/1", "name": "x", "version": "%d"}')
    path = tmp_path / "teacher.py"
    path.write_text(path.read_text().replace('"%d"}\'', '"%d"}\' % os.getpid()'))
    assert "A teacher never changes while it labels" in refused(lambda: labels(teacher(tmp_path)))


def test_what_nobody_asked_for_is_refused(tmp_path):
    python(tmp_path, "answer()\nsys.stdout.write('more\\n')\nsys.stdout.flush()\ntime.sleep(0.05)")
    made = teacher(tmp_path, batch_samples=1)
    message = refused(lambda: labels(made))
    assert "'more" in message


def test_memory_is_bounded(tmp_path):
    python(tmp_path, "x = bytearray(400 << 20)\ntime.sleep(60)")
    message = refused(lambda: labels(teacher(tmp_path, memory_megabytes=200)))
    assert "it took more than 200 MB of memory (memory_megabytes)" in message


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] == "Z"
    except OSError:
        return True


def test_what_it_prints_without_end_is_no_harm(tmp_path):
    flood = "import threading\nthreading.Thread(target=lambda: [os.write(2, b'x' * 99 + b'\\n') for _ in iter(int, 1)]"
    python(tmp_path, flood + ", daemon=True).start()\ntime.sleep(0.3)\nanswer()")
    made = teacher(tmp_path)
    assert len(labels(made)) == 6
    assert len(made.asker.other.told()) <= 50 * 1000  # type: ignore[attr-defined]
    python(tmp_path, flood + ").start()\ntime.sleep(1000)")
    start = time.monotonic()
    assert "took longer" in refused(lambda: labels(teacher(tmp_path, timeout=0.2)))
    assert time.monotonic() - start < 10


def test_it_ends_when_it_kills_its_keeper(tmp_path):
    python(tmp_path, "print(os.getpid(), file=sys.stderr, flush=True)\nos.kill(os.getppid(), 9)\ntime.sleep(1000)")
    made = teacher(tmp_path)
    assert "it ended before it had answered" in refused(lambda: labels(made))
    assert gone(int(made.asker.other.told()))  # type: ignore[attr-defined]


FORK = """
if os.fork() == 0:
    os.setsid()
    for _ in range(20):
        if os.fork() == 0:
            os.setsid()
            print(os.getpid(), file=sys.stderr, flush=True)
            time.sleep(1000)
    os._exit(0)
"""


def test_whatever_it_started_ends_with_it(tmp_path):
    python(tmp_path, FORK + "time.sleep(0.5)\nanswer()")
    made = teacher(tmp_path)
    assert len(labels(made)) == 6
    program = made.asker.other
    pids = [int(line) for line in program.errors if line.strip().isdigit()]  # type: ignore[attr-defined]
    assert len(pids) == 20
    assert not any(gone(pid) for pid in pids)
    program.close()  # type: ignore[attr-defined]
    assert all(gone(pid) for pid in pids)


def test_processes_are_bounded(tmp_path):
    python(tmp_path, FORK + "time.sleep(60)")
    assert "it started more than 5 processes (processes)" in refused(lambda: labels(teacher(tmp_path, processes=5)))


@programs.needs_landlock
def test_it_writes_nowhere_but_in_its_own_folder(tmp_path):
    outside = tmp_path / "outside"
    body = f"""
open("here", "w").write("x" * 10)
assert os.getcwd() == os.environ["HOME"] == os.environ["TMPDIR"]
tried = 0
for use in (lambda: open({str(outside)!r}, "w"), lambda: os.mkdir({str(outside)!r}), lambda: os.remove(__file__),
            lambda: os.truncate(__file__, 0), lambda: os.rename(__file__, {str(outside)!r})):
    try:
        use()
    except OSError:
        tried += 1
answer(tried / 10)
"""
    python(tmp_path, body)
    assert set(labels(teacher(tmp_path)).values()) == {0.5}
    assert not outside.exists()
    python(tmp_path, f"open({str(outside)!r}, 'w').write('x')\nanswer()")
    assert len(labels(teacher(tmp_path, writable=[str(tmp_path)]))) == 6
    assert outside.read_text() == "x"


def test_it_knows_no_credentials_but_those_that_the_entry_names(tmp_path, monkeypatch):
    monkeypatch.setenv("VENDOR_KEY", SECRET)
    monkeypatch.setenv("OTHER_KEY", "another one")
    python(tmp_path, "print(sorted(os.environ.items()), file=sys.stderr)\nsys.exit(1)")
    message = refused(lambda: labels(teacher(tmp_path)))
    assert SECRET not in message
    named = teacher(tmp_path, environment=["VENDOR_KEY"])
    message = refused(lambda: labels(named))
    whole = named.asker.other.told()  # type: ignore[attr-defined]
    assert "VENDOR_KEY" in whole
    assert "OTHER_KEY" not in whole
    assert SECRET not in whole + message
    assert teacher(tmp_path).fingerprint() == named.fingerprint()


def test_what_it_prints_of_a_secret_is_hidden(tmp_path, monkeypatch):
    monkeypatch.setenv("VENDOR_KEY", SECRET)
    python(tmp_path, "say(error=asked['id'], message='bad key ' + os.environ['VENDOR_KEY'])")
    message = refused(lambda: labels(teacher(tmp_path, environment=["VENDOR_KEY"])))
    assert "bad key ***" in message


def test_the_fingerprint_is_command_files_and_handshake(tmp_path):
    def fingerprint(folder: str, body: str = "answer()", hello: str = HELLO, **changes: object) -> str:
        python(tmp_path / folder, body, hello)
        return teacher(tmp_path / folder, **changes).fingerprint()

    first = fingerprint("one")
    assert fingerprint("two") == first
    assert fingerprint("one", batch_samples=3, timeout=9, description="another text") == first
    assert fingerprint("one", "answer(0.1)") != first
    assert fingerprint("one", hello=HELLO.replace('"1"', '"2"')) != first
    elsewhere = tmp_path / Path(sys.executable).name
    elsewhere.symlink_to(sys.executable)
    assert fingerprint("one", command=[str(elsewhere), "-S", "teacher.py"]) == first
    assert fingerprint("one", command=[sys.executable, "-S", "teacher.py", "--strict"]) != first


def test_what_is_missing_is_said_before_anything_starts(tmp_path):
    python(tmp_path)
    for changes, words in (
        ({"command": ["no-such-program"]}, "no program 'no-such-program'"),
        ({"files": ["weights.bin"]}, "no such file"),
        ({"environment": ["T2T_NO_SUCH_KEY"]}, "the variable T2T_NO_SUCH_KEY is not set"),
        ({"writable": ["cache"]}, "no such path"),
    ):
        assert words in refused(lambda changes=changes: teacher(tmp_path, **changes))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"command": "sh x.sh"}, "as a list, such as"),
        ({"command": []}, "command"),
        ({"command": ["sh", ""]}, "an empty text"),
        ({"environment": ["KEY=value"]}, "no name of a variable; write names, never values"),
        ({"timeout": 0}, "timeout"),
        ({"memory_megabytes": 1}, "memory_megabytes"),
    ],
)
def test_an_entry_that_cannot_be_meant_is_refused(changes, words):
    with pytest.raises(T2TError, match=words):
        parse_entry({"id": "mine", "kind": "command", "command": ["sh"], **changes}, "entry")


def test_a_teacher_that_is_gone_leaves_no_process_and_no_folder(tmp_path):
    python(tmp_path, "print(os.getpid(), os.getcwd(), file=sys.stderr, flush=True)\nanswer()")
    made = teacher(tmp_path)
    labels(made)
    pid, folder = made.asker.other.told().split()  # type: ignore[attr-defined]
    assert os.path.isdir(folder)
    del made
    assert gone(int(pid))
    assert not os.path.exists(folder)
