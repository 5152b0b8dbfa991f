"""`chat` in the terminal: lines are turns or commands, and the end of input ends it."""

from __future__ import annotations

import io
import os
import pty
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lengthwise.api import chat as chats
from lengthwise.cli.chat import COMMANDS, Talk
from lengthwise.cli.main import main
from tests.bad_world import make_world
from tests.called import called
from tests.chat_models import chat_model

Say = Callable[..., tuple[int, list[str], list[str]]]


def given(*lines: str | bytes) -> io.TextIOWrapper:
    """A standard input."""
    data = [line if isinstance(line, bytes) else line.encode() for line in lines]
    return io.TextIOWrapper(io.BytesIO(b"".join(line + b"\n" for line in data)))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("world")
    make_world(found)
    return found


@pytest.fixture
def say(place: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Say:
    """A chat that is given lines: its status, lines of standard output, lines of errors."""
    monkeypatch.chdir(place)

    def run(*lines: str | bytes, words: tuple[str, ...] = ()) -> tuple[int, list[str], list[str]]:
        monkeypatch.setattr(sys, "stdin", given(*lines))
        argv = ["lengthwise", "chat", "-m", "talker", "--max-new-tokens", "4", *words]
        monkeypatch.setattr(sys, "argv", argv)
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capfd.readouterr()
        kept = [line for line in err.splitlines() if line and "trained to" not in line]
        return int(ended.value.code or 0), out.split("\n"), kept

    return run


def test_commands_and_turns(say: Say) -> None:
    status, out, err = say("Hi.", "", "And?", "/cost", "/undo", "/cost", "/recipe", "/help")
    assert (status, err) == (0, [])
    said = "\n".join(out)
    assert "2 turns, " in said and "not read again)" in said
    assert "2 messages are left" in said and "\nfull\n" in said
    assert all(name in said for name in COMMANDS)


def test_a_chat_is_saved_and_gone_on_with(say: Say, place: Path) -> None:
    status, _, err = say("Hi.", "/save talk.session", "/save talk.session")
    assert (status, err) == (0, [])
    for lines, words in (
        (("/load talk.session", "And?", "/cost"), ()),
        (("And?", "/cost"), ("--session", "talk.session")),
    ):
        status, out, err = say(*lines, words=words)
        assert (status, err) == (0, [])
        assert "2 messages under full" in "\n".join(out)
        assert "1 turns" in "\n".join(out)


def test_a_recipe_that_is_named_is_that_of_the_session(say: Say) -> None:
    assert say("Hi.", "/save named.session")[0] == 0
    words = ("--session", "named.session", "-r")
    status, out, err = say("And?", words=(*words, "lookup"))
    assert (status, len(err)) == (2, 1) and "under 'full', not under 'lookup'" in err[0]
    status, out, err = say("And?", words=(*words, "full"))
    assert (status, err) == (0, []) and "2 messages under full" in "\n".join(out)


def test_a_line_that_is_no_text_is_refused_alone(say: Say) -> None:
    status, out, err = say("Hi.", b"caf\xe9", "And caf\u00e9?\r", b"a\0b", "/cost")
    assert status == 0 and "2 turns" in "\n".join(out)
    assert len(err) == 2 and all(line.startswith("lengthwise: standard input ") for line in err)
    assert "is not UTF-8" in err[0]


def test_another_recipe_in_mid_conversation(say: Say) -> None:
    status, out, err = say("Hi.", "/recipe kivi(residual=16, group=8)", "And?")
    assert (status, err) == (0, [])
    assert "kivi(group=8, residual=16)" in out


def test_what_is_wrong_is_said_and_the_chat_goes_on(say: Say) -> None:
    status, out, err = say(
        "/undo", "/cots", "/save", "/load nope", "/save doc.txt", "/save x", "/recipe yarm",
        "/load doc.txt", "/recipe sirllm(budget=25%)", "Hi.", "/cost",
    )  # fmt: skip
    assert status == 0
    for told, line in zip(
        ("no turn to take back", "did you mean", "takes the name of a file", "no such file",
         "no session of lengthwise", "nothing was said yet", "yarm", "no session, or a damaged",
         "give a budget in tokens"),
        err, strict=True,
    ):  # fmt: skip
        assert told in line and line.startswith("lengthwise: ")
    assert "1 turns" in "\n".join(out)


def test_a_model_without_a_template_is_refused(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place)
    status, out, err = called("chat", "-m", "model")
    assert (status, out) == (2, "")
    assert "no chat template" in err


def test_at_a_terminal_ctrl_d_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = pty.openpty()
    with os.fdopen(theirs, "r") as stream:
        monkeypatch.setattr(sys, "stdin", stream)
        model = chat_model()
        talk = Talk(model, model.chat(), {"max_new_tokens": 2})
        assert talk.terminal
        lines = iter(["Hi.", "/cost"])

        def ask(prompt: str) -> str:
            assert prompt == "> "
            try:
                return next(lines)
            except StopIteration:
                raise EOFError from None

        monkeypatch.setattr("builtins.input", ask)
        talk.run()
        assert talk.chat.cost.turns == 1
    os.close(ours)


def test_ctrl_c_ends_an_answer_and_not_the_chat(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", given("Hi.", "And?"))
    model = chat_model()
    talk = Talk(model, model.chat(), {"max_new_tokens": 6})
    calls = []

    def flush() -> None:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(sys.stdout, "flush", flush)
    talk.run()
    said = [each["content"] for each in talk.chat.messages if each["role"] == "assistant"]
    assert len(said) == 2 and len(said[0]) < len(said[1])


def test_ctrl_c_while_a_turn_is_read_ends_no_more_than_that(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Under a recipe that reads before there is a stream."""
    monkeypatch.setattr(sys, "stdin", given("Hi.", "And?", "Why?"))
    model = chat_model()
    talk = Talk(model, model.chat("kivi(group=8, residual=16)"), {"max_new_tokens": 6})
    read, calls = chats.read_to, list[int]()

    def stopped(*asked: Any) -> None:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        read(*asked)

    monkeypatch.setattr(chats, "read_to", stopped)
    talk.run()
    said = [each["content"] for each in talk.chat.messages if each["role"] == "user"]
    assert said == ["Hi.", "Why?"]
    assert "nothing was said" in capfd.readouterr().err
