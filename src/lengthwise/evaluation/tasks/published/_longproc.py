"""LongProc's rows as the authors' repository has them, made into those of the hub.

Beside the data lies `prompts.yaml`, whose USER_PROMPT is filled: with the web page that a row
names, with searches that stand in the rows of countdown, with trips that `_trips` writes out.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from lengthwise._utils.messages import first_line
from lengthwise.errors import LengthwiseError
from lengthwise.evaluation.tasks.published._shared import pseudo_code
from lengthwise.evaluation.tasks.published._shared.files import Row
from lengthwise.evaluation.tasks.published._shared.values import (
    number_in,
    numbers_in,
    text_in,
    texts_in,
)
from lengthwise.evaluation.tasks.published._trips import written_trip

# Where it is not named after its task.
FILES = {"travel_planning": "travel_planning_all.json"}
COLUMNS = {
    "html_to_tsv": (
        "html_path", "task_topic", "task_description", "gt", "tsv_header", "filtering_instruction",
    ),
    pseudo_code.KIND: pseudo_code.COLUMNS,
    "path_traversal": ("context_nl", "question_repr", "answer_nl"),
    "tom_tracking": ("story", "question", "solution"),
    "countdown": ("nums", "target", "demonstration"),
    "travel_planning": (
        "disambig_question_text", "constraints", "connected_cities",
        "ground_truth_plan", "ground_truth_cities", "ground_truth_durations",
        "estimated_output_tokens",
    ),
}  # fmt: skip
# Tokens of the right reply, by which trips are of a level.
_ESTIMATED = {"2k": range(2048), "8k": range(4096, 8192)}
# The two searches that countdown's prompt shows: numbers, target, file.
_SHOWN = (((40, 19, 23, 7), 29, "0.5k"), ((9, 16, 6, 18), 12, "8k"))
_TRIPS_SHOWN = "travel_planning_icl_examples.json"


@dataclass(frozen=True, slots=True)
class Repository:
    """A task whose rows lie in a file of the repository. data: that file."""

    task: str
    data: Path

    def row(self, row: Row) -> Row | None:
        """A row as the hub has it; None where it is of another level.

        Raises:
            LengthwiseError: for a file that is not beside the data, or not as it is published.
            ValueError: for a value of another kind than is published.
        """
        kind, _, level = self.task.rpartition("_")
        if kind == "travel_planning":
            if number_in(row, "estimated_output_tokens") not in _ESTIMATED[level]:
                return None
            fields, right = self._trip(row)
        else:
            make = {
                "html_to_tsv": self._page, pseudo_code.KIND: self._code,
                "path_traversal": self._path, "tom_tracking": self._story,
                "countdown": self._puzzle,
            }[kind]  # fmt: skip
            fields, right = make(row)
        prompt = filled(self._prompt(tuple(fields)), fields)
        return {"input_prompt": prompt, "reference_output": right, "metadata": row}

    def _page(self, row: Row) -> tuple[dict[str, str], str]:
        named = ("task_topic", "task_description", "tsv_header", "filtering_instruction")
        page = self._beside(text_in(row, "html_path"))
        fields = {"html_str": page, **{name: text_in(row, name) for name in named}}
        return fields, text_in(row, "gt")

    def _code(self, row: Row) -> tuple[dict[str, str], str]:
        lines, right = ("\n".join(texts_in(row, each)) for each in pseudo_code.COLUMNS[:2])
        return {"pseudocode": lines}, right

    def _path(self, row: Row) -> tuple[dict[str, str], str]:
        start, end = texts_in(row, "question_repr", 2)
        fields = {"city_context": text_in(row, "context_nl"), "src_city": start, "dst_city": end}
        return fields, text_in(row, "answer_nl")

    def _story(self, row: Row) -> tuple[dict[str, str], str]:
        fields = {"story": text_in(row, "story"), "question": text_in(row, "question")}
        return fields, text_in(row, "solution")

    def _puzzle(self, row: Row) -> tuple[dict[str, str], str]:
        nums, target = numbers_in(row, "nums"), number_in(row, "target")
        shown = _searches_shown(self.data.parent, _changed(self.data))
        fields = {"demonstration": shown, "nums": str(nums), "target": str(target)}
        return fields, search_of(row)

    def _trip(self, row: Row) -> tuple[dict[str, str], str]:
        fields = {
            "demonstration": _trips_shown(self.data.parent, _changed(self.data)),
            "problem": text_in(row, "disambig_question_text"),
        }
        return fields, written_trip(row)

    def _prompt(self, fields: tuple[str, ...]) -> str:
        """USER_PROMPT of the file beside the data."""
        path = self.data.parent / "prompts.yaml"
        return _template(path, _changed(path), fields)

    def _beside(self, name: str) -> str:
        """The text of a file beside the data, below its folder."""
        folder = self.data.parent.resolve()
        path = (folder / name).resolve()
        if not path.is_relative_to(folder):
            raise ValueError(f"column 'html_path' holds {name!r}, which leaves the data's folder")
        return _text(path)


def filled(text: str, fields: Mapping[str, str]) -> str:
    """A template with its fields, in one pass: braces of what is filled in stay.

    Args:
        text: with {names}; double braces are single ones.
        fields: by name.
    """

    def found(mark: re.Match[str]) -> str:
        return mark[0][0] if mark[1] is None else fields.get(mark[1], mark[0])

    return re.sub(r"\{\{|\}\}|\{(\w+)\}", found, text)


def search_of(row: Row) -> str:
    """The search of a row of countdown, with the title that the prompt asks for.

    Args:
        row: of the repository, whose search stands between tags.

    Raises:
        ValueError: for a row without one.
    """
    said = text_in(row, "demonstration")
    before, mark, rest = said.partition("<Search Procedure>\n")
    search, end, solution = rest.partition("\n</Search Procedure>")
    if before or not mark or not end:
        raise ValueError("column 'demonstration' holds no <Search Procedure>")
    return f"# Search Procedure\n{search}{solution}"


@lru_cache(maxsize=4)
def _searches_shown(folder: Path, changed: int) -> str:
    """The examples of countdown's prompt: two rows of its files."""
    shown = []
    for numbers, target, level in _SHOWN:
        path = folder / f"countdown_{level}.json"
        for row in _rows(path):
            if numbers_in(row, "nums") == list(numbers) and number_in(row, "target") == target:
                break
        else:
            raise LengthwiseError(
                f"{path} lacks the numbers {list(numbers)} with target {target}, which the prompt "
                "shows; give the file as it is published"
            )
        asked = f"Numbers: {list(numbers)}\nTarget: {target}"
        shown.append(f"# Example\n{asked}\n\n{search_of(row)}")
    return "\n\n".join(shown)


@lru_cache(maxsize=4)
def _trips_shown(folder: Path, changed: int) -> str:
    """The examples of the prompt of trips."""
    return "\n\n".join(
        f"# Example\n{text_in(row, 'disambig_question_text')}\n\n{written_trip(row)}"
        for row in _rows(folder / _TRIPS_SHOWN)
    )


@lru_cache(maxsize=8)
def _template(path: Path, changed: int, fields: tuple[str, ...]) -> str:
    """USER_PROMPT, which must have these fields. changed: when the file was, last."""
    import yaml  # type: ignore[import-untyped]

    try:
        found: Any = yaml.safe_load(_text(path))
    except (RecursionError, yaml.YAMLError) as error:
        raise _unread(path, error) from error
    prompt = found.get("USER_PROMPT") if isinstance(found, dict) else None
    missing = [f"{{{name}}}" for name in fields if f"{{{name}}}" not in str(prompt)]
    if not isinstance(prompt, str) or missing:
        lacks = f" with {missing[0]}" if missing else ""
        raise LengthwiseError(
            f"{path} has no USER_PROMPT{lacks}; give the file that is published beside the data"
        )
    return prompt


def _changed(path: Path) -> int:
    """When a file was changed last; 0 for one that is not there."""
    return path.stat().st_mtime_ns if path.exists() else 0


def _rows(path: Path) -> list[Row]:
    try:
        found = json.loads(_text(path))
    except (ValueError, RecursionError) as error:
        if isinstance(error, LengthwiseError):
            raise
        raise _unread(path, error) from error
    if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
        raise LengthwiseError(f"{path} is no list of rows; give the file as it is published")
    return found


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except (OSError, ValueError) as error:
        raise _unread(path, error) from error


def _unread(path: Path, error: BaseException) -> LengthwiseError:
    return LengthwiseError(
        f"{path} cannot be read ({first_line(error)}); it is published beside the data"
    )


__all__ = ["COLUMNS", "FILES", "Repository", "filled", "search_of"]
