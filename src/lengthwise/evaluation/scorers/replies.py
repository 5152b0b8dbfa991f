"""What of a reply is scored: a line, a tagged part, a block of code, what follows a prefix."""

from __future__ import annotations

import re
from collections.abc import Sequence as Seq


def first_line(reply: str) -> str:
    """The first line after empty ones: LongBench's few-shot sets (2023, arXiv:2308.14508).

    Args:
        reply: by a model.
    """
    return reply.lstrip("\n").split("\n")[0]


def cut_at(reply: str, ends: Seq[str]) -> str:
    """What stands before the first of some end strings: M4LE (2023, arXiv:2310.19240).

    Args:
        reply: by a model.
        ends: such as a line end or a full stop.
    """
    places = [place for end in ends if (place := reply.find(end)) >= 0]
    return reply[: min(places, default=len(reply))]


def after_prefix(reply: str, prefix: str = "Answer:") -> str:
    """The rest of the line behind a prefix, else the first line: HELMET (2024, arXiv:2410.02694).

    HELMET scores both the whole reply and this part, and keeps the better. A prefix that the model
    repeats is taken off again.

    Args:
        reply: by a model.
        prefix: matched without case.
    """
    mark = re.escape(prefix)
    found = re.search(f"{mark}(.*)", reply, re.IGNORECASE) or re.match("(.*)", reply)
    part = found[1] if found else ""
    return re.sub(f"^{mark}", "", part.strip(), flags=re.IGNORECASE).strip()


def behind(reply: str, beginning: str) -> str:
    """What follows the words that a reply was to begin with, whether it says them again or not.

    Args:
        reply: by a model that was asked to begin so, and may as well have gone on.
        beginning: as in "Its value is"; spaces and line ends are alike.

    Returns:
        The rest, as it stands behind the beginning: with a space in front where there was none.
    """
    words = r"\s+".join(map(re.escape, beginning.split()))
    again = re.match(rf"\s*{words}(?:(?<!\w)|(?!\w))", reply) if words else None
    if again is not None:
        return reply[again.end() :]
    return f" {reply}" if words and reply[:1].strip() else reply


def tagged(reply: str, tag: str) -> str | None:
    """What stands between <tag> and </tag>: LongProc (2025, arXiv:2501.05414).

    Args:
        reply: by a model.
        tag: as in "Route".

    Returns:
        The text without outer spaces; None where either mark is missing.
    """
    start, end = reply.find(f"<{tag}>"), reply.find(f"</{tag}>")
    return None if start < 0 or end < 0 else reply[start + len(tag) + 2 : end].strip()


def code_block(reply: str, language: str) -> str | None:
    """The code of a fenced block, up to the last fence: LongProc (2025, arXiv:2501.05414).

    Args:
        reply: by a model.
        language: as in "cpp", for which a block that says "c++" serves too.

    Returns:
        The code; None where there is no closed block.
    """
    spelt = r"(?:cpp|c\+\+)" if language == "cpp" else re.escape(language)
    found = re.search(rf"```{spelt}([\s\S]*)```", reply)
    return found[1] if found else None


__all__ = ["after_prefix", "behind", "code_block", "cut_at", "first_line", "tagged"]
