"""Items on the disk: a job goes on, another one is refused, and nothing done is lost."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lengthwise.api.labelling import label
from lengthwise.errors import LengthwiseError
from lengthwise.testing.simulated import PositionBiased
from lengthwise.workflows.batch_results import manifest_of

LABELS = ("yes", "no")
ROOT = Path(__file__).parents[2]
TRUTH = {f"text number {n}": LABELS[n % 3 % 2] for n in range(40)}


class Stopping(PositionBiased):
    """Fails at a call."""

    def __init__(self, at: int = 10**9, truth: dict[str, str] = TRUTH) -> None:
        super().__init__(truth, LABELS, lambda place: 0.3 * place)
        self.at = at

    def write(self, text: str, question: str, *more: object) -> str:  # type: ignore[override]
        if self.calls + 1 == self.at:
            raise LengthwiseError("the server has gone")
        return super().write(text, question, 99)


def asked(model: PositionBiased, out: Path | None, **more: object) -> list[str | None]:
    options: dict[str, object] = {"size": 8, **more}
    return label(model, [*model.truth], "Is it?", LABELS, out=out, **options).labels  # type: ignore[arg-type]


def lines(out: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in out.read_text().splitlines()]


def test_items_are_kept_as_they_are_done_and_the_rest_is_the_same(tmp_path: Path) -> None:
    out = tmp_path / "a.jsonl"
    whole = asked(Stopping(), None)
    with pytest.raises(LengthwiseError, match="gone; .* of 40 items are kept in .*a.jsonl"):
        asked(Stopping(13), out)
    kept = lines(out)
    assert 8 <= len(kept) < 40
    said: list[str] = []
    second = Stopping()
    assert asked(second, out, note=said.append) == whole
    assert said == [f"{len(kept)} of 40 items were done before"]
    assert lines(out)[: len(kept)] == kept and second.calls < 25
    assert sorted(int(str(row["item"])) for row in lines(out)) == [*range(1, 41)]
    found = {str(row["text"]): row["label"] for row in lines(out)}
    assert [found[text] for text in TRUTH] == whole
    assert asked(Stopping(1), out) == whole


def test_another_job_is_refused_by_name(tmp_path: Path) -> None:
    out = tmp_path / "a.jsonl"
    asked(Stopping(), out)
    other = Stopping()
    other.name = "others"
    fewer = Stopping(truth={"a": "yes"})
    for words, call in (
        ("another items|another items", lambda: asked(fewer, out)),
        ("another model", lambda: asked(other, out)),
        ("size '8'", lambda: asked(Stopping(), out, size=9)),
        ("seed '0'", lambda: asked(Stopping(), out, seed=1)),
        ("task 'Is it[?]'", lambda: label(Stopping(), [*TRUTH], "Or?", LABELS, size=8, out=out)),
        ("labels", lambda: label(Stopping(), [*TRUTH], "Is it?", ("yes", "x"), size=8, out=out)),
    ):  # fmt: skip
        with pytest.raises(LengthwiseError, match=words):
            call()
    assert len(asked(fewer, out, force=True)) == len(lines(out)) == 1


def test_what_is_no_output_stays(tmp_path: Path) -> None:
    out = tmp_path / "a.jsonl"
    out.write_text("years of work")
    with pytest.raises(LengthwiseError, match="no labels of lengthwise.*--force"):
        asked(Stopping(), out)
    assert out.read_text() == "years of work" and not manifest_of(out).exists()
    asked(Stopping(), out, force=True)
    assert len(lines(out)) == 40


def test_a_torn_line_is_done_again_and_a_damaged_one_is_named(tmp_path: Path) -> None:
    out = tmp_path / "a.jsonl"
    whole = asked(Stopping(), out)
    data = out.read_bytes()
    out.write_bytes(data[:-9])
    assert asked(Stopping(), out) == whole and len(lines(out)) == 40
    out.write_bytes(data.replace(b'{"item": 9,', b'{"item": 99,', 1))
    with pytest.raises(LengthwiseError, match="line .* is damaged"):
        asked(Stopping(), out)


SLOW = """
import sys, time
from pathlib import Path
from tests.workflows.test_batch_results import Stopping, asked
class Slow(Stopping):
    def write(self, *given):
        time.sleep(float(sys.argv[2]))
        return super().write(*given)
asked(Slow(), Path(sys.argv[1]))
"""


@pytest.mark.slow
def test_kill_9_in_the_middle_loses_no_item(tmp_path: Path) -> None:
    out, other = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    command = [sys.executable, "-c", SLOW, str(out)]
    running = subprocess.Popen([*command, "0.2"], cwd=ROOT)
    # Importing takes a while on a loaded machine.
    for _ in range(6000):
        if out.exists() and out.read_bytes().count(b"\n") >= 9:
            break
        time.sleep(0.05)
    running.send_signal(signal.SIGKILL)
    running.wait()
    kept = out.read_bytes()
    kept = kept[: kept.rindex(b"\n") + 1]
    assert 9 <= kept.count(b"\n") < 40
    assert subprocess.run([*command, "0"], cwd=ROOT).returncode == 0
    assert out.read_bytes().startswith(kept)
    asked(Stopping(), other)
    assert out.read_bytes() == other.read_bytes()
