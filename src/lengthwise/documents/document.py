"""A text that a person works with, and where it came from.

`lengthwise.read` makes one of files and folders; a prompt may be one; `compare` reads one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from lengthwise.errors import DocumentError

DocumentKind = Literal["text", "markdown", "html", "pdf", "docx", "reference", "several"]


@dataclass(frozen=True, slots=True)
class Part:
    """A file within a text that holds several.

    name: of the file. start, stop: where it stands in that text. offset: where in the file's own
    text that begins.
    """

    name: str
    start: int
    stop: int
    offset: int = 0


@dataclass(frozen=True, slots=True, repr=False)
class Document:
    """A text and where it came from; `str` of it is the text.

    name: what to call it in a report (a file name, never a whole path).
    text: all of it.
    kind: the format it was read from; "reference" is Python's own language reference, "several"
        stands for several files in one text.
    skipped: what was wrong with the files of a folder that hold no text, one line each.
    parts: the files in it, where it holds several.

    Raises DocumentError when the text is empty or only white space.
    """

    name: str
    text: str
    kind: DocumentKind = "text"
    skipped: tuple[str, ...] = ()
    parts: tuple[Part, ...] = ()

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

    def places(self, start: int, stop: int) -> list[tuple[str, str, int, int]]:
        """Where a run of the text stands, by file.

        Args:
            start: its first character.
            stop: behind its last one.

        Returns:
            (name, text, start, stop) in each file that it touches, in characters of that file's own
                text. The lines between files, which say their names, are of none.
        """
        if not self.parts:
            return [(self.name, self.text[start:stop], start, stop)]
        found = []
        for part in self.parts:
            first, last = max(start, part.start), min(stop, part.stop)
            if first < last:
                shift = part.offset - part.start
                found.append((part.name, self.text[first:last], first + shift, last + shift))
        return found

    def place(self, name: str, start: int, stop: int) -> tuple[int, int] | None:
        """Where a run of a file stands in the text; None where no file of it has that name or is so
        long.

        Args:
            name: of the file; of the document itself where it is one.
            start: its first character in the file.
            stop: behind its last one.
        """
        if not self.parts:
            inside = name == self.name and 0 <= start < stop <= len(self.text)
            return (start, stop) if inside else None
        for part in self.parts:
            shift = part.start - part.offset
            if part.name == name and part.start <= start + shift < stop + shift <= part.stop:
                return start + shift, stop + shift
        return None
