"""How a verb is given documents: named files and folders, or what is piped into it."""

from __future__ import annotations

import os
import shlex
import stat
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import click

from lengthwise.documents.document import Document
from lengthwise.documents.files import document_of
from lengthwise.documents.folders import read, read_each
from lengthwise.errors import DocumentError

# Seconds without an end of standard input before we say what is waited for.
PATIENCE = 2.0


def given_document(sources: Sequence[str], pipe: bool = True, dash: str = "-") -> Document | None:
    """The document of these paths, or of a pipe where there are none; None where there is neither.

    Where paths are given, a pipe is read only as one of them, "-": it may belong to the loop of a
    script. Files of folders that hold no text are counted on standard error.

    sources: the paths.
    pipe: False where a pipe is no document in any case.
    dash: how the verb is told to read the pipe.
    """
    if not sources:
        return _of_pipe() if pipe else None
    if pipe and "-" not in sources and piped():
        click.echo(
            f"standard input is not read, since the document is given; {dash} reads it too",
            err=True,
        )
    with _saying_what_is_waited_for("-" in sources):
        found = read(sources)
    say_skipped(found.skipped)
    return found


def given_documents(sources: Sequence[str]) -> list[Document]:
    """Each file of these paths as a document of its own; a pipe only as one of them, "-".

    Raises DocumentError where there is none, and where one cannot be read.
    """
    if not sources:
        raise DocumentError(
            "this recipe is for documents that are set apart, and none is given: name each file, "
            "or a folder of them"
        )
    with _saying_what_is_waited_for("-" in sources):
        found = read_each(sources)
    say_skipped(found[0].skipped)
    return found


def refuse_name(prompt: str) -> None:
    """Raises DocumentError for a prompt that is the name of a file here: it is what to ask about,
    and those letters are no question. A word without a suffix or a folder's mark is one."""
    path = Path(os.path.expanduser(prompt))
    try:
        there = ("/" in prompt or path.suffix != "") and path.exists()
    except (OSError, ValueError):
        return
    if there:
        raise DocumentError(
            f"{prompt!r} is the prompt here, and the name of a file: give a question and the file "
            f'by -d, as in lengthwise run "What is it about?" -d {shlex.quote(prompt)}'
        )


def refuse_questions(sources: Sequence[str]) -> None:
    """Raises DocumentError for a source that is a question: no file has its name, and words do."""
    for each in sources:
        if any(map(str.isspace, each.strip())) and not os.path.lexists(os.path.expanduser(each)):
            raise DocumentError(
                f"there is no file {each!r}; a question is given by -q, as in "
                f"lengthwise compare report.pdf -q {shlex.quote(each)}"
            )


def say_skipped(skipped: Sequence[str]) -> None:
    """Says on standard error how many files of folders were passed over, and why the first was."""
    if len(skipped) == 1:
        click.echo(f"passed over 1 file: {skipped[0]}", err=True)
    elif skipped:
        click.echo(f"passed over {len(skipped)} files, such as {skipped[0]}", err=True)


def piped() -> bool:
    """Whether standard input is a pipe, a socket or a file, and no terminal or null device."""
    try:
        mode = os.fstat(sys.stdin.fileno()).st_mode
    except (AttributeError, OSError, ValueError):
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISREG(mode) or stat.S_ISSOCK(mode)


def _of_pipe() -> Document | None:
    """What is piped in, or None where nothing is."""
    if not piped():
        return None
    with _saying_what_is_waited_for(True):
        data = sys.stdin.buffer.read()
    if not data.strip():
        click.echo("standard input is empty: there is no document in it", err=True)
        return None
    return document_of(data, "standard input")


@contextmanager
def _saying_what_is_waited_for(waits: bool) -> Iterator[None]:
    """Says after a while that standard input is read, which somebody may have left open."""
    words = "reading the document from standard input; < /dev/null gives none"
    timer = threading.Timer(PATIENCE, lambda: click.echo(words, err=True))
    timer.daemon = True
    if waits:
        timer.start()
    try:
        yield
    finally:
        timer.cancel()
