"""One thing that documents are read from."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Literal

from lengthwise.sequences.errors import UnreadableError

SourceKind = Literal["text", "document", "jsonl", "json", "parquet", "arrow", "datasets", "folder"]


@dataclass(frozen=True)
class SourceFile:
    """One thing to read: where it is, what to call it, and the repository of what is in it.

    why: what the system says of a folder that cannot be read.
    """

    location: str
    name: str
    repository: str
    kind: SourceKind
    why: str = ""

    @property
    def size(self) -> int:
        """Bytes on disk; 0 for what is not a file."""
        if self.kind in ("datasets", "folder"):
            return 0
        try:
            return os.stat(self.location).st_size
        except OSError as error:
            raise UnreadableError(self.location, str(error.strerror)) from error
