"""How `run` and `compare` are given documents: none is dropped, and a pipe is one."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from lengthwise.cli import documents
from lengthwise.cli.main import main

Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Call:
    def run(*arguments: str, stdin: Path | None = None) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["lengthwise", *arguments])
        if stdin is not None:
            monkeypatch.setattr(sys, "stdin", stdin.open(encoding="utf-8"))
        with pytest.raises(SystemExit) as ended:
            main()
        captured = capsys.readouterr()
        return int(ended.value.code or 0), captured.out, captured.err

    return run


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The prompts that `run` gives to the model; nothing is generated."""
    from lengthwise.api.model import Generation, Model
    from lengthwise.engine.request_metrics import RequestMetrics

    found: list[str] = []

    def generate(self: Model, prompt: list[int], *_: object, **__: object) -> Generation:
        assert self.tokenizer is not None
        found.append(self.tokenizer.decode(prompt))
        return Generation("", [], RequestMetrics(finish_reason="stop"))

    monkeypatch.setattr(Model, "generate", generate)
    return found


@pytest.fixture
def files(tmp_path: Path) -> Path:
    (tmp_path / "a.txt").write_text("first text")
    (tmp_path / "b.txt").write_text("second text")
    (tmp_path / "piped.txt").write_text("piped text")
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "c.py").write_text("third = 3")
    (tmp_path / "code" / "d.bin").write_bytes(b"\0\1\2")
    return tmp_path


def test_run_reads_all_documents_in_their_order(call: Call, asked: list[str], files: Path) -> None:
    status, _, err = call("run", "Why?", "-d", str(files / "b.txt"), "-d", str(files / "code"),
                          "-d", str(files / "a.txt"))  # fmt: skip
    assert status == 0, err
    assert (
        "==> b.txt <==\n\nsecond text\n\n==> code/c.py <==\n\nthird = 3\n\n==> a.txt <==\n\n"
        "first text\n\n\nWhy?" in asked[0]
    )
    assert "passed over 1 file: code/d.bin" in err


def test_a_link_to_another_file_of_a_folder_is_not_a_second_one(files: Path) -> None:
    from lengthwise.documents.folders import read

    (files / "code" / "again.py").symlink_to("c.py")
    (files / "code" / "far.txt").symlink_to(files / "a.txt")
    (files / "code" / ".kept").write_text("kept = 4")
    (files / "code" / "kept.py").symlink_to(".kept")
    found = read(files / "code")
    assert found.text.count("third = 3") == found.text.count("kept = 4") == 1
    assert "again.py" not in found.text
    # What lies elsewhere was not named.
    assert "first text" not in found.text
    assert any("far.txt is a link to a file outside" in line for line in found.skipped)
    assert read([files / "code", files / "b.txt"]).text.count("third = 3") == 1


def test_run_reads_a_pipe_as_the_document(call: Call, asked: list[str], files: Path) -> None:
    for extra in ((), ("-d", "-")):
        status, _, err = call("run", "Why?", *extra, stdin=files / "piped.txt")
        assert status == 0, err
        assert "piped text\n\nWhy?" in asked.pop()
    # It is left alone, with a word, where -d names another, and read with it where asked for.
    _, _, err = call("run", "Why?", "-d", str(files / "a.txt"), stdin=files / "piped.txt")
    assert "first text\n\nWhy?" in asked[0] and "piped" not in asked.pop()
    assert "standard input is not read" in err and "; -d - reads it too" in err
    call("run", "Why?", "-d", "-", "-d", str(files / "a.txt"), stdin=files / "piped.txt")
    assert "==> standard input <==\n\npiped text\n\n==> a.txt <==" in asked.pop()
    # Without a prompt beside it it is the prompt, as ever.
    _, _, err = call("run", "-d", str(files / "a.txt"), stdin=files / "piped.txt")
    assert "first text\n\npiped text" in asked.pop() and "not read" not in err


def test_a_piped_prompt_is_decoded_as_documents_are(
    call: Call, asked: list[str], files: Path
) -> None:
    for name, data in (("latin", b"caf\xe9\n"), ("page.pdf", b"%PDF-1.7\n\xe2\xe3\x01\x02\x03")):
        (files / name).write_bytes(data)
        for verb in (("run",), ("write", "-w", "400")):
            status, out, err = call(*verb, stdin=files / name)
            assert status == 2 and not out and err.count("\n") == 1
            assert "standard input is not UTF-8: byte 0xe" in err
            assert ("beside a PROMPT it would be the document" in err) == (verb == ("run",))
    assert not asked
    for encoding in ("utf-8", "utf-8-sig", "utf-16"):
        (files / "wide").write_bytes("grüße\r\nalle".encode(encoding))
        status, _, err = call("run", stdin=files / "wide")
        assert status == 0 and "grüße\nalle" in asked.pop(), err


@pytest.mark.parametrize("name", ["a.txt", "code/c.py", "code/"])
def test_a_prompt_that_is_the_name_of_a_file_is_refused(
    call: Call, asked: list[str], files: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(files)
    status, out, err = call("run", name)
    assert status == 2 and not out and not asked
    assert err.count("\n") == 1 and f"-d {name}" in err


@pytest.mark.parametrize("word", ["code", "missing.txt", "and/or", "Why?"])
def test_a_prompt_that_is_a_word_is_asked(
    call: Call, asked: list[str], files: Path, monkeypatch: pytest.MonkeyPatch, word: str
) -> None:
    monkeypatch.chdir(files)
    status, _, err = call("run", word)
    assert status == 0, err
    assert word in asked[0]


def test_compare_says_where_a_question_is_given(call: Call, files: Path) -> None:
    for sources in (("Who signed it?", "a.txt"), (str(files / "a.txt"), "Who signed it?")):
        status, out, err = call("compare", *sources)
        assert status == 2 and not out
        assert "no file 'Who signed it?'" in err and "-q 'Who signed it?'" in err


def test_run_says_where_a_document_is_given(call: Call, files: Path) -> None:
    status, _, err = call("run", "Who signed it?", str(files / "a.txt"))
    assert status == 2 and f"({files / 'a.txt'}): the prompt" in err and "-d FILE" in err


def test_a_misspelt_recipe_is_one_line_without_a_caret(call: Call) -> None:
    status, _, err = call("run", "Why?", "-r", "lookup + snapvk")
    assert status == 2 and err.endswith("did you mean 'snapkv'? (position 10)\n")


def test_an_empty_pipe_is_said(call: Call, asked: list[str], files: Path) -> None:
    (files / "empty.txt").write_text("")
    status, _, err = call("run", "Why?", stdin=files / "empty.txt")
    assert status == 0 and "standard input is empty" in err and "Why?" in asked[0]


def test_what_is_no_pipe_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    with open(os.devnull) as nothing:
        monkeypatch.setattr(sys, "stdin", nothing)
        assert not documents.piped()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"text")))
    assert not documents.piped()
    code = "from lengthwise.cli.documents import piped; import sys; sys.exit(not piped())"
    for stdin in (subprocess.PIPE, subprocess.DEVNULL):
        child = subprocess.run([sys.executable, "-c", code], stdin=stdin, check=False)
        assert child.returncode == (stdin == subprocess.DEVNULL)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("run",), "the prompt is empty"),
        (("run", "Why?", "-d", "-"), "standard input is empty"),
        (("compare", "-", "--no-probes"), "standard input is empty"),
    ],
)
def test_a_closed_standard_input_is_an_empty_one(arguments: tuple[str, ...], words: str) -> None:
    code = "from lengthwise.cli.main import main; main()"
    child = subprocess.run(
        ["sh", "-c", 'exec "$@" <&-', "sh", sys.executable, "-c", code, *arguments],
        stderr=subprocess.PIPE, check=False, text=True,
    )  # fmt: skip
    said = child.stderr.splitlines()[-1]
    assert child.returncode == 2 and words in said and "Traceback" not in child.stderr


def test_a_pipe_that_stays_open_is_said_to_be_waited_for(tmp_path: Path) -> None:
    code = "from lengthwise.cli import documents as d; d.PATIENCE = 0.05; d.given_document([])"
    read, write = os.pipe()
    child = subprocess.Popen([sys.executable, "-c", code], stdin=read, stderr=subprocess.PIPE)
    assert child.stderr is not None
    assert b"reading the document from standard input" in child.stderr.readline()
    os.close(read)
    os.write(write, b"text")
    os.close(write)
    assert child.wait() == 0


def test_compare_reads_several_documents_and_a_pipe(
    call: Call, files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ("--no-probes", "--max-new-tokens", "1", "-r", "full", "--json")
    names = []
    from lengthwise.cli import compare as verb

    measured = verb.run_compare

    def compare(model, document, *rest, **options):
        names.append((document.name, document.text))
        return measured(model, document, *rest, **options)

    monkeypatch.setattr(verb, "run_compare", compare)
    status, out, err = call("compare", str(files / "a.txt"), str(files / "code"), *arguments)
    assert status == 0, err
    assert names[0][0] == "a.txt and 1 more" and "third = 3" in names[0][1]
    assert json.loads(out)["length"] > 20
    status, _, err = call("compare", *arguments, stdin=files / "piped.txt")
    assert (status, names[1]) == (0, ("standard input", "piped text")), err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("run", "hi", "-r", "full", "-r", "lookup"), "--recipe is given 2 times, and run takes"),
        (
            ("run", "hi", "--max-new-tokens", "3", "--max-new-tokens", "4"),
            "--max-new-tokens is given 2 times",
        ),
        (("run", "hi", "-m", "a", "-m", "b"), "--model is given 2 times"),
        (("compare", "--probes", "--no-probes"), "--probes is given 2 times"),
        (("bench", "drafting", "--seed", "1", "--seed", "2"), "--seed is given 2 times"),
        (("datastore", "build", "x", "-o", "a", "-o", "b"), "--out is given 2 times"),
        (("run", "hi", "-d", "no.txt", "-d", "-"), "no.txt"),
    ],
)
def test_nothing_given_twice_is_dropped(call: Call, arguments: tuple[str, ...], words: str) -> None:
    status, out, err = call(*arguments)
    assert status == 2 and words in err and "Traceback" not in err + out
    assert err.count("\n") == 1


def test_what_may_be_repeated_still_may(call: Call) -> None:
    status, _, err = call("methods", "--json", "--json")
    assert status == 0, err
