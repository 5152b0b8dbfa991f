"""What was read of the documents, in blocks: what drops words leaves hundreds of runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence as Seq
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lengthwise.api.generation import Source

# Characters that may be left out within a block, about a line; three dots stand for them.
NEAR = 80


def shown(sources: Seq[Source]) -> Iterator[str]:
    """A block each: where it stands, and its text.

    Runs of one document that are read one after the other, and of which each begins at most `NEAR`
    characters behind the one before, are one block.

    Args:
        sources: in the order in which they are read.
    """
    several = len({each.name for each in sources if each.name}) > 1
    for block in _blocks(sources):
        first, last = block[0], block[-1]
        place = "written by the model"
        if first.name:
            place = f"{first.start:,} to {last.stop:,}"
            place = f"{first.name}, {place}" if several else place
            place += f", {len(block)} runs" if len(block) > 1 else ""
        yield f"[{place}]\n{_text(block)}"


def _blocks(sources: Seq[Source]) -> Iterator[list[Source]]:
    held: list[Source] = []
    for each in sources:
        if held and not _near(held[-1], each):
            yield held
            held = []
        held.append(each)
    if held:
        yield held


def _near(last: Source, each: Source) -> bool:
    return bool(each.name) and each.name == last.name and 0 <= each.start - last.stop <= NEAR


def _text(block: Seq[Source]) -> str:
    text = block[0].text
    for last, each in zip(block, block[1:], strict=False):
        if each.start == last.stop:
            text += each.text
            continue
        before, after = text.rstrip(), each.text.lstrip()
        spaces = text[len(before) :] + each.text[: len(each.text) - len(after)]
        # Lines stay lines.
        text = before + ("\n… " if "\n" in spaces else " … ") + after
    return text.strip()


__all__ = ["shown"]
