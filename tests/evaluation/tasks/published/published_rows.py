"""A right row of every published benchmark, in words of our own: its task, its file, the row."""

from __future__ import annotations

import json
from typing import Any

_QUESTION = "What stands on the hill?"
_TOWER = "A grey tower stands on the hill."

# Options with which one row is enough.
OPTIONS = {"mbpp": ", chat=true"}
RIGHT: dict[str, tuple[str, str, dict[str, Any]]] = {
    "kick": ("closed", "validation.jsonl", {
        "question": _QUESTION, "answer": {"normalized_aliases": ["tower"]}, "entity_pages": {},
        "search_results": {},
    }),
    "charbench": ("find_last_occurrence", "charbench.jsonl", {
        "question": _QUESTION, "answer": "7", "word": "hilltops", "character": "s",
        "task": "find_last_occurrence",
    }),
    "humaneval": ("humaneval", "HumanEval.jsonl", {
        "task_id": "HumanEval/0", "prompt": "def double(x):\n", "entry_point": "double",
        "canonical_solution": "    return 2 * x\n", "test": "def check(f):\n    assert f(1) == 2\n",
    }),
    "mbpp": ("full", "mbpp.jsonl", {
        "task_id": 11, "text": "Give one.", "code": "def one():\n    return 1",
        "test_list": ["assert one() == 1"],
    }),
    "longbench": ("trec", "trec.jsonl", {
        "input": _QUESTION, "context": _TOWER, "answers": ["Place"],
        "all_classes": ["Place", "Person"], "length": 7,
    }),
    "longbench_v2": ("long_dialogue", "data.json", {
        "domain": "Long-dialogue History Understanding", "question": _QUESTION, "answer": "B",
        "context": _TOWER, "length": "short", "difficulty": "easy",
        **{f"choice_{letter}": f"a {letter} tower" for letter in "ABCD"},
    }),
    "longbench_write": ("en_500", "longbench_write.jsonl", {
        "prompt": "Describe a tower in 40 words.", "type": "Letters", "length": 40,
    }),
    "l_eval": ("tpo", "tpo.jsonl", {
        "instructions": [_QUESTION], "outputs": ["B"], "input": _TOWER, "source": "us",
    }),
    "ada_leval": ("best_1k", "stackselect_1k.json", {
        "question_id": 7, "question": _QUESTION, "all_answers": ["A tower.", "A barn."],
        "answer": "A1",
    }),
    "infinitebench": ("longbook_choice_eng", "longbook_choice_eng.jsonl", {
        "id": 1, "context": _TOWER, "input": _QUESTION, "answer": ["tower"],
        "options": ["barn", "tower", "mill", "oak"],
    }),
    "longicl": ("banking77", "BANKING77.jsonl", {
        **{f"{n} Round Prompt": "query: a key\nkind: lost\n" * n + "query: my key\nkind:\n"
           for n in range(1, 6)},
        "label": "lost",
    }),
    "longproc": ("countdown_0.5k", "countdown_0.5k.jsonl", {
        "input_prompt": "Make the number.\n\nNumbers: [1, 2, 3, 4]\nTarget: 10",
        "reference_output": "# Search Procedure\nOne line.\n<Solution>\n1 + 2 = 3\n</Solution>",
        "metadata": json.dumps({"nums": [1, 2, 3, 4], "target": 10}),
    }),
    "m4le": ("newsqa", "newsqa.jsonl", {
        "instruction": "You get some short texts.", "input": f"{_TOWER}\n\n{_QUESTION}\nAnswer:",
        "answers": ["a tower"], "length_bucket": 1000,
    }),
    "needle_threading": ("single_needle", "Single_Needle.json", {
        "id": 1, "haystack": '{"k1": "v1", "k2": "v2"}', "keys": "k1", "values": "v1",
        "question": "Name the value of k1: ", "context_length": 2000, "needle_depth": "50",
    }),
}  # fmt: skip
