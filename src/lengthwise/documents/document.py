"""A text that a person works with, and where it came from.

`lengthwise.read` makes one of files and folders; a prompt may be one; `compare` reads one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from lengthwise.errors import DocumentError

DocumentKind = Literal["text", "markdown", "html", "pdf", "docx", "reference", "several"]


@dataclass(frozen=True, slots=True, repr=False)
class Document:
    """A text and where it came from; `str` of it is the text.

    name: what to call it in a report (a file name, never a whole path).
    text: all of it.
    kind: the format it was read from; "reference" is Python's own language reference, "several"
        stands for several files in one text.
    skipped: what was wrong with the files of a folder that hold no text, one line each.

    Raises DocumentError when the text is empty or only white space.
    """

    name: str
    text: str
    kind: DocumentKind = "text"
    skipped: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.text.strip():
            raise DocumentError(f"{self.name} is empty: give a document with text in it")

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        files = "file" if len(self.skipped) == 1 else "files"
        passed = f", {len(self.skipped)} {files} passed over" if self.skipped else ""
        return f"<Document {self.name!r}, {self.kind}, {len(self.text):,} characters{passed}>"

    @classmethod
    def from_text(cls, text: str, name: str = "text") -> Document:
        """A document from text already at hand.

        Args:
            text: all of it.
            name: what to call it in a report.

        Raises:
            DocumentError: when the text is empty or only white space.
        """
        return cls(name=name, text=text)
