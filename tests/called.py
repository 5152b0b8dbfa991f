"""Calling the command line within this process, as a terminal would see it."""

from __future__ import annotations

import io
import logging
import os
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

from lengthwise.cli.main import main


def called(*words: str) -> tuple[int, str, str]:
    """Status, standard output and standard error of a call, whoever writes them: the files behind
    them are exchanged, not only Python's names for them."""
    with _caught(1) as out, _caught(2) as err, _as_outside_of_pytest():
        argv, sys.argv = sys.argv, ["lengthwise", *words]
        stdin, sys.stdin = sys.stdin, io.TextIOWrapper(io.BytesIO(b""))
        try:
            main()
        except SystemExit as ended:
            status = int(ended.code or 0)
        finally:
            sys.argv, sys.stdin = argv, stdin
            sys.stdout.flush()
            sys.stderr.flush()
        found = [(file.seek(0), file.read().decode(errors="replace"))[1] for file in (out, err)]
    return status, *found


@contextmanager
def _caught(number: int) -> Iterator[io.BufferedRandom]:
    name = {1: "stdout", 2: "stderr"}[number]
    before, kept = getattr(sys, name), os.dup(number)
    with tempfile.TemporaryFile() as file:
        os.dup2(file.fileno(), number)
        stream = os.fdopen(number, "w", closefd=False, errors="backslashreplace")
        setattr(sys, name, stream)
        try:
            yield file
        finally:
            setattr(sys, name, before)
            os.dup2(kept, number)
            os.close(kept)


@contextmanager
def _as_outside_of_pytest() -> Iterator[None]:
    """Log lines and warnings go where they go for a user: pytest has its own ideas."""
    root = logging.getLogger()
    kept, root.handlers = root.handlers, []
    others = [
        handler
        for logger in logging.Logger.manager.loggerDict.values()
        for handler in getattr(logger, "handlers", ())
        if type(handler) is logging.StreamHandler
    ]
    streams = [_told_to(handler, sys.stderr) for handler in others]
    try:
        with warnings.catch_warnings():
            warnings.resetwarnings()
            yield
    finally:
        root.handlers = kept
        for handler, stream in zip(others, streams, strict=True):
            handler.setStream(stream or sys.__stderr__)


def _told_to(handler: logging.StreamHandler[Any], stream: TextIO) -> TextIO | None:
    """Where a handler wrote so far; None where pytest has closed that, as behind `capsys`."""
    try:
        return handler.setStream(stream)
    except ValueError:
        handler.stream = stream
        return None
