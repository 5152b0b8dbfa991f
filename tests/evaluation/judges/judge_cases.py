"""What judges say, for their tests."""

from __future__ import annotations

import json
from typing import Any

from lengthwise.evaluation.judges.judge import Case

CASE = Case("Where is the {ship}?", ("At the pier.",), ("It lies {at} the pier.",))
PAIR = Case("Where is the {ship}?", ("At the pier.",), ("It lies {at} the pier.", "At sea."))
# No answer of any judge.
GARBAGE = (
    "", " ", "\n", "no", "{}", "[]", "[[]]", "[[x]]", "{" * 3000, "[[A]] or [[B]]", "[[3]] [[4]]",
    "Rating: [[11]]", "Rating: [[0]]", "[[-1]]", "[[1e3]]", '{"score": 3}', "null", '"rating"',
    "The text contains some errors", "\udcff", "0" * 5000, '{"fluency": 2, "correctness": 1}',
    '{"fluency": -1, "correctness": 4}', '{"fluency": true, "correctness": 1}', '{"recall": -1}',
    '{"precision": 3, "sentence_count": 2}', '{"precision": 0, "sentence_count": 0}',
    f"{'9' * 5000} errors, with a total score reduction of 1", f"[[{'9' * 5000}]]",
    f'{{"fluency": {"9" * 4000}, "correctness": 1}}',
)  # fmt: skip


def write(found: dict[str, Any]) -> str:
    """An object among words, as models write one."""
    return f"Let me see. {{It}} is good.\n```json\n{json.dumps(found)}\n```"
