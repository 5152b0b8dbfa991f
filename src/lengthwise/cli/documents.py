"""How a verb is given documents: named files and folders, or what is piped into it."""

from __future__ import annotations

import os
import stat
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import click

from lengthwise.tasks.documents import Document, document_of
from lengthwise.tasks.folders import read

# Seconds without an end of standard input before we say what is waited for.
PATIENCE = 2.0


def given_document(sources: Sequence[str], pipe: bool = True) -> Document | None:
    """The document of these paths, or of a pipe where there are none; None where there is neither.

    Where paths are given a pipe is read only as one of them, "-": it may belong to the loop of a
    script. pipe False: it is no document in any case. Files of folders that hold no text are
    counted on standard error.
    """
    if not sources:
        return _of_pipe() if pipe else None
    if pipe and "-" not in sources and piped():
        click.echo(
            "standard input is not read, since the document is given; - reads it too", err=True
        )
    with _saying_what_is_waited_for("-" in sources):
        found = read(sources)
    if found.skipped:
        click.echo(f"passed over {len(found.skipped)} files, such as {found.skipped[0]}", err=True)
    return found


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
