"""HumanEval: functions that are written behind their docstrings, and run.

Chen and others, "Evaluating Large Language Models Trained on Code", 2021, arXiv:2107.03374. The
file is `HumanEval.jsonl.gz` with 164 rows (prompt, canonical_solution, test, entry_point). The
prompt is asked as it is, without a chat template, and the reply ends at the paper's five stop
words. What is run is prompt, reply, test and `check(ENTRY_POINT)`, for 3 seconds. The score is
pass@1, greedy; more replies, sampled (the paper's temperatures are 0.2 for pass@1 and 0.8 for
pass@100), give pass@k by `lengthwise eval show RUN --pass-at K`.

    chat      asks for the whole function in a block of code; the first block of the reply is run
              behind the prompt, so that its imports are there
    filled    other solved problems of the file before the prompt, as many as fit the length

Ours differs: replies have up to 512 tokens; no package is there but the standard library; a problem
has a process of its own. Problems are short, so a length is only what has to hold them unless
`filled`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence as Seq
from dataclasses import dataclass
from typing import ClassVar

from lengthwise._utils.papers import Paper
from lengthwise.evaluation.scorers.programs import fenced
from lengthwise.evaluation.scorers.replies import cut_at
from lengthwise.evaluation.tasks.benchmark import Difficulty, Sample
from lengthwise.evaluation.tasks.published._shared.benchmark import NEEDLE_LIKE
from lengthwise.evaluation.tasks.published._shared.code import CodeBenchmark
from lengthwise.evaluation.tasks.published._shared.files import Row, Source
from lengthwise.evaluation.tasks.published._shared.values import text_in

MOST = 512
STOP = ("\nclass", "\ndef", "\n#", "\nif", "\nprint")
_ASK = """Complete this function. Reply with all of it in one block of Python.

```python
{prompt}
```"""


@dataclass(frozen=True)
class HumanEval(CodeBenchmark):
    """164 problems."""

    name: ClassVar[str] = "humaneval"
    paper: ClassVar[Paper] = Paper(
        "Evaluating Large Language Models Trained on Code", "Chen et al.", 2021,
        arxiv="2107.03374", code="https://github.com/openai/human-eval",
    )  # fmt: skip
    tasks: ClassVar[Mapping[str, Difficulty]] = {"humaneval": NEEDLE_LIKE}
    usual_temperature: ClassVar[float] = 0.8

    def source(self, task: str) -> Source:
        """`HumanEval.jsonl.gz`."""
        return Source(
            ("HumanEval.jsonl.gz", "HumanEval.jsonl", "test-00000-of-00001.parquet"),
            ("task_id", "prompt", "canonical_solution", "test", "entry_point"),
            "openai/openai_humaneval",
        )

    def problem(self, task: str, row: Row, rows: Seq[Row]) -> Sample:
        """The prompt as it is, or in a chat."""
        prompt, entry = text_in(row, "prompt"), text_in(row, "entry_point")
        checks = f"{text_in(row, 'test')}\ncheck({entry})\n"
        facts = {"prompt": prompt, "entry": entry, "checks": checks}
        right = (text_in(row, "canonical_solution"),)
        if self.chat:
            return Sample("", _ASK.format(prompt=prompt.rstrip()), right, MOST, facts=facts)
        return Sample("", prompt, right, MOST, facts=facts, chat=False, stop=STOP)

    def function(self, row: Row) -> str:
        """Prompt and solution."""
        return f"{row['prompt']}{row['canonical_solution']}"

    def program(self, said: str, sample: Sample) -> str:
        """Prompt and reply; of a chat, its block of code behind the prompt."""
        prompt, entry = str(sample.facts["prompt"]), str(sample.facts["entry"])
        if not self.chat:
            return prompt + cut_at(said, STOP)
        block = fenced(said)
        code = said if block is None else block
        # A function that has its docstring alone is whole, and is defined anew.
        whole = re.search(rf"^\s*def\s+{re.escape(entry)}\b", code, re.MULTILINE)
        return f"{prompt}\n{code}" if whole else prompt + code


__all__ = ["MOST", "STOP", "HumanEval"]
