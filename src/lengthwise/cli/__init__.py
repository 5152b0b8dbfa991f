"""The command line: one file a verb. Errors of the user's are one line and exit status 2."""

from __future__ import annotations

from lengthwise.cli.main import main

__all__ = ["main"]
