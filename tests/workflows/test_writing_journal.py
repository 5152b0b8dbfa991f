"""Parts on the disk: a job goes on, another one is refused, and nothing done is lost to kill -9."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lengthwise._utils.outputs import Output, check_outputs
from lengthwise.api.writing import write
from lengthwise.errors import LengthwiseError
from lengthwise.workflows.writing_journal import LONG_TEXT, Journal, journal_of
from tests.workflows.text_models import Failing, Words

PLAN = "\n".join(f"Part {n} - Main point: point {n} - Words: 200" for n in range(1, 6))
ROOT = Path(__file__).parents[2]


def kinds(out: Path) -> list[str]:
    rows = [json.loads(line) for line in journal_of(out).read_text().splitlines()]
    names = ("job", "plan", "text", "done")
    return [next(name for name in names if name in row) for row in rows]


def test_parts_are_kept_one_by_one_and_the_text_is_written_at_the_end(tmp_path: Path) -> None:
    out = tmp_path / "a.md"
    with pytest.raises(LengthwiseError, match="gone; 3 parts are kept in .*a.md.parts.jsonl"):
        write(Failing(5, plan=PLAN), "Write.", 1000, out=out)
    assert kinds(out) == ["job", "plan", "text", "text", "text"] and not out.exists()
    said: list[str] = []
    model = Words(PLAN)
    found = write(model, "Write.", 1000, out=out, note=said.append)
    assert said[0] == "3 of 5 parts were written before" and found.before == 3
    assert len(model.asked) == 2 and kinds(out)[4:] == ["text", "text", "text", "done"]
    assert out.read_text() == found.text and found.text.count("\n\n") == 4
    assert not list(tmp_path.glob(".*"))
    again = write(Failing(1), "Write.", 1000, out=out, note=said.append)
    assert again.text == found.text and "begins anew" in said[-1]
    out.unlink()
    assert write(Failing(1), "Write.", 1000, out=out).text == out.read_text() == found.text


def test_what_decides_the_text_may_not_change(tmp_path: Path) -> None:
    out = tmp_path / "a.md"
    write(Words(PLAN), "Write.", 1000, out=out)
    other = Words(PLAN)
    other.name = "others"
    for words, call in (
        ("belongs to instruction 'Write.', and instruction 'Sing.' is asked for",
         lambda: write(Words(), "Sing.", 1000, out=out)),
        ("belongs to words '1000', and words '999'",
         lambda: write(Words(), "Write.", 999, out=out)),
        ("belongs to model 'words', and model 'others'",
         lambda: write(other, "Write.", 1000, out=out)),
        ("belongs to plan 'None'", lambda: write(Words(), "Write.", 1000, out=out, plan=PLAN)),
        ("belongs to repeats '1'", lambda: write(Words(), "Write.", 1000, out=out, repeats=3)),
        ("belongs to seed '0'", lambda: write(Words(), "Write.", 1000, out=out, seed=3)),
    ):  # fmt: skip
        with pytest.raises(LengthwiseError, match=words):
            call()
    before = out.read_text()
    assert write(other, "Sing.", 1000, out=out, force=True).before == 0
    assert kinds(out)[:2] == ["job", "plan"] and kinds(out).count("text") == 5
    assert json.loads(journal_of(out).read_text().splitlines()[0])["over"] and before


def test_a_text_of_the_users_is_not_overwritten(tmp_path: Path) -> None:
    out = tmp_path / "a.md"
    out.write_text("years of work")
    with pytest.raises(LengthwiseError, match="no long text of lengthwise.*--force"):
        write(Words(PLAN), "Write.", 1000, out=out)
    assert not journal_of(out).exists()
    out.unlink()
    write(Words(PLAN), "Write.", 1000, out=out)
    out.write_text(out.read_text() + "and a line of mine")
    with pytest.raises(LengthwiseError, match="--force"):
        write(Words(PLAN), "Write.", 1000, out=out)
    # Begun over it, a job that was stopped goes on without being told again.
    with pytest.raises(LengthwiseError, match="the server has gone"):
        write(Failing(3, plan=PLAN), "Write.", 1000, out=out, force=True)
    assert "of mine" in out.read_text()
    assert write(Words(PLAN), "Write.", 1000, out=out).before == 1
    assert "of mine" not in out.read_text()


def test_a_file_that_is_no_journal_is_not_overwritten(tmp_path: Path) -> None:
    out = tmp_path / "a.md"
    for data in (b"notes\n", b"{}\n", b"[1]\n", b'{"format": "lengthwise writing"}\n', b"\xff\n"):
        journal_of(out).write_bytes(data)
        with pytest.raises(LengthwiseError, match=r"a\.md\.parts\.jsonl: here the parts of a\.md"):
            write(Words(PLAN), "Write.", 1000, out=out)
        assert journal_of(out).read_bytes() == data
    # Torn before its first line was whole, it is nothing.
    journal_of(out).write_bytes(b'{"format": "lengthw')
    assert write(Words(PLAN), "Write.", 1000, out=out).before == 0


def test_a_damaged_line_is_named_and_a_torn_part_is_written_again(tmp_path: Path) -> None:
    out = tmp_path / "a.md"
    whole = write(Words(PLAN), "Write.", 1000, out=out).text
    lines = journal_of(out).read_bytes().splitlines(keepends=True)
    out.unlink()
    journal_of(out).write_bytes(b"".join([*lines[:3], b'{"text": 5, "nope": 1}\n']))
    with pytest.raises(LengthwiseError, match="line 4 is damaged.*written again"):
        write(Words(PLAN), "Write.", 1000, out=out, force=False)
    journal_of(out).write_bytes(b"".join([*lines[:3], lines[3][:40]]))
    found = write(Words(PLAN), "Write.", 1000, out=out)
    assert found.before == 1 and found.text == whole


def test_a_crash_between_the_last_line_and_the_text(tmp_path: Path) -> None:
    out = tmp_path / "a.md"
    out.write_text("old")
    text = write(Words(PLAN), "Write.", 1000, out=out, force=True).text
    out.write_text("old")
    check_outputs([Output("out", out, LONG_TEXT)])
    assert write(Failing(1), "Write.", 1000, out=out).text == out.read_text() == text


def test_two_writers_do_not_share_a_journal(tmp_path: Path) -> None:
    job = {"instruction": "Write."}
    with Journal(tmp_path / "a.md", job), pytest.raises(LengthwiseError, match="another writer"):
        Journal(tmp_path / "a.md", job)


SLOW = """
import sys
from pathlib import Path
from lengthwise.api.writing import write
from tests.workflows.text_models import Words
plan = "\\n".join(f"Part {n} - Main point: point {n} - Words: 200" for n in range(1, 6))
print(write(Words(plan, pause=float(sys.argv[2])), "Write.", 1000, out=Path(sys.argv[1])).before)
"""


@pytest.mark.slow
def test_kill_9_in_the_middle_loses_no_part(tmp_path: Path) -> None:
    out = tmp_path / "a.md"
    command = [sys.executable, "-c", SLOW, str(out)]
    running = subprocess.Popen([*command, "0.5"], cwd=ROOT)
    # Importing takes a while on a loaded machine.
    for _ in range(6000):
        if journal_of(out).exists() and journal_of(out).read_bytes().count(b"\n") >= 4:
            break
        time.sleep(0.05)
    running.send_signal(signal.SIGKILL)
    running.wait()
    before = journal_of(out).read_bytes()
    kept = before[: before.rindex(b"\n") + 1]
    assert kept.count(b"\n") < 7 and not out.exists()
    done = subprocess.run([*command, "0"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) == kept.count(b"\n") - 2 >= 2
    assert journal_of(out).read_bytes().startswith(kept)
    texts = [json.loads(line).get("text") for line in journal_of(out).read_text().splitlines()]
    parts = [text for text in texts if text]
    assert len(parts) == 5 and out.read_text() == "\n\n".join(parts) + "\n"
    assert out.read_text() == write(Words(PLAN), "Write.", 1000).text
