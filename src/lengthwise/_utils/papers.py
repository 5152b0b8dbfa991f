"""What a method rests on, as data: a paper, several of them, or none.

Lists, pages and JSON are all made from it, so that a paper is written in one form everywhere.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TypeAlias

_ARXIV = re.compile(r"\d{2}(0[1-9]|1[0-2])\.\d{4,5}")


@dataclass(frozen=True, slots=True)
class Paper:
    """A publication: a paper, or what stands for one, as a post or a repository.

    Args:
        title: the whole title.
        authors: as a citation in a text names them: "Fort", "Kaya and Tan", "Zhang et al.".
        year: of the venue where there is one, else of the first version.
        arxiv: the id without its version, as "2306.14048"; None where there is none or it is not
            known.
        venue: short and without the year, as "NeurIPS"; empty for a preprint.
        url: where it is read, if it has no arXiv id.
        code: address of the authors' repository.

    Raises:
        ValueError: no title, no authors, or an arXiv id that is none.
    """

    title: str
    authors: str
    year: int
    arxiv: str | None = None
    venue: str = ""
    url: str = ""
    code: str = ""

    def __post_init__(self) -> None:
        if not self.title.strip() or not self.authors.strip():
            raise ValueError("a paper has a title and authors; neither may be empty")
        if self.arxiv is not None and not _ARXIV.fullmatch(self.arxiv):
            raise ValueError(
                f"{self.arxiv!r} is no arXiv id; write it as '2306.14048', or None without one"
            )

    @property
    def link(self) -> str:
        """Where to read it: arXiv, else `url`, else `code`; empty where none is known."""
        return f"https://arxiv.org/abs/{self.arxiv}" if self.arxiv else self.url or self.code

    def cite(self) -> str:
        """One line: authors, title, venue and year, arXiv id."""
        when = f"{self.venue} {self.year}" if self.venue else str(self.year)
        arxiv = f", arXiv:{self.arxiv}" if self.arxiv else ""
        return f'{self.authors}, "{self.title}", {when}{arxiv}'

    def __str__(self) -> str:
        return self.cite()


Papers: TypeAlias = Paper | tuple[Paper, ...] | None
"""What the attribute `paper` of a method may be."""


def papers_of(paper: object) -> tuple[Paper, ...]:
    """The papers behind an attribute `paper`, none for None.

    Raises:
        TypeError: it is something else, as the text that it once was.
    """
    found = () if paper is None else paper if isinstance(paper, tuple) else (paper,)
    if not all(isinstance(each, Paper) for each in found):
        raise TypeError(
            "its class attribute 'paper' is no Paper: write "
            "paper = Paper('the title', 'Zhang et al.', 2023, arxiv='2306.14048'), a tuple of "
            "several, or None where there is none"
        )
    return found


def cite(paper: Papers) -> str:
    """The papers in one line, "no paper" without one."""
    return "; ".join(each.cite() for each in papers_of(paper)) or "no paper"
