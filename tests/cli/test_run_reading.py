"""`run` on a long document: a bar at once, how far beyond what was trained, and --length."""

from __future__ import annotations

import os
import pty
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lengthwise.api import batch
from lengthwise.cli import run as module
from lengthwise.cli.main import main
from lengthwise.engine import loop
from tests.bad_world import make_world
from tests.called import called

ASKED = ("run", "hi", "-m", "model", "-d", "doc.txt", "--max-new-tokens", "2", "--raw")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("world")
    make_world(found)
    return found


@pytest.fixture
def world(place: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(place)
    return place


@contextmanager
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """The other end of a terminal that standard error is. No fixture: pytest exchanges the stream
    itself once fixtures are done."""
    ours, theirs = pty.openpty()
    with os.fdopen(theirs, "w") as stream, monkeypatch.context() as patch:
        patch.setenv("TERM", "xterm")
        patch.setattr(sys, "stderr", stream)
        yield ours
    os.close(ours)


def seen(terminal: int) -> str:
    """What a terminal has been sent since the last look."""
    os.set_blocking(terminal, False)
    found = b""
    while True:
        try:
            found += os.read(terminal, 1 << 16)
        except BlockingIOError:
            return found.decode()


def test_a_bar_is_there_before_the_first_token_is_read(
    world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = []
    read = loop.prefill

    with terminal(monkeypatch) as screen:

        def prefill(*arguments: object, **options: object) -> object:
            shown.append(seen(screen))
            found = read(*arguments, **options)  # type: ignore[arg-type]
            shown.append(seen(screen))
            return found

        monkeypatch.setattr(batch.loop, "prefill", prefill)
        monkeypatch.setattr(sys, "argv", ["lengthwise", *ASKED])
        with pytest.raises(SystemExit) as ended:
            main()
        last = seen(screen)
    assert not ended.value.code, last
    length = len((world / "doc.txt").read_bytes()) + len("\n\nhi")
    before, after = shown
    assert "reading" in before and f"0/{length}" in before
    assert f"{length}/{length}" in after
    assert "tokens read, first token" in last


def test_no_bar_where_there_is_no_terminal(world: Path) -> None:
    status, _, err = called(*ASKED)
    assert status == 0, err
    assert "reading" not in err and "\r" not in err and "\x1b" not in err


def test_the_bar_goes_with_the_last_token(monkeypatch: pytest.MonkeyPatch) -> None:
    with terminal(monkeypatch) as screen, module.Reading(10) as bar:
        bar.advance(4)
        assert bar.shown
        bar.advance(6)
        assert not bar.shown
        assert "10/10" in seen(screen)


def test_a_prompt_beyond_the_trained_length_is_said_to_be(world: Path) -> None:
    length = len((world / "doc.txt").read_bytes()) + len("\n\nhi")
    _, _, err = called(*ASKED)
    assert f"{length:,} tokens to read, {length / 512:.1f} times the 512 that" in err
    _, _, err = called(*ASKED, "--length", "500")
    assert "times the 512" not in err
    _, _, err = called(*ASKED, "--length", "509")
    assert "513 tokens to read, 1.0 times the 512" in err


@pytest.mark.parametrize("spelling", ["--length", "-n"])
def test_length_reads_the_start_of_a_document(world: Path, spelling: str) -> None:
    whole = len((world / "doc.txt").read_bytes())
    status, _, err = called(*ASKED, spelling, "64")
    assert status == 0, err
    assert f"the first 64 of {whole:,} tokens of the document are read" in err
    # The model's tokens are bytes; two new lines and the question follow.
    assert f"{64 + 4} tokens read, first token" in err


def test_all_of_a_document_is_read_alike_with_and_without_a_length(world: Path) -> None:
    whole = len((world / "doc.txt").read_bytes())
    _, out, _ = called(*ASKED)
    status, cut, err = called(*ASKED, "--length", str(whole))
    assert status == 0, err
    assert cut == out


def test_a_length_reads_what_compare_reads(world: Path) -> None:
    from lengthwise.api.document_prompt import build_prompt
    from lengthwise.api.loading import load

    model = load("model")
    model.tokenizer.chat_template = (  # type: ignore[union-attr]
        "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}<a>"
    )
    text = (world / "doc.txt").read_text()
    found = module._encode_start(model, "hi", text, 64, templated=True)
    prompt = build_prompt(model, model.encode(text)[:64], ["hi"])
    assert found == [*prompt.prefix, *prompt.suffixes[0]]
    assert model.tokenizer.decode(found) == f"<user>{text[:64]}\n\nhi<a>"  # type: ignore[union-attr]
