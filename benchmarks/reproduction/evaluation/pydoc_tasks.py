"""Five tasks for lm-evaluation-harness, made of the pages that Python carries about itself."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

KINDS = {
    "pydoc_next": "multiple_choice", "pydoc_word": "loglikelihood",
    "pydoc_page": "loglikelihood_rolling", "pydoc_first": "generate_until, 3 shots",
    "pydoc_chat": "generate_until, 2 shots, chat template",
}  # fmt: skip
_SPACES = {"regexes_to_ignore": ["\\s"], "ignore_punctuation": True, "ignore_case": True}
_EXACT = [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True, **_SPACES}]
_FIRST: dict[str, Any] = {
    "doc_to_text": "Sentence: {{sentence}}\nIts first word:", "doc_to_target": "{{word}}",
    "output_type": "generate_until", "fewshot_split": "test", "metric_list": _EXACT,
    "generation_kwargs": {"until": ["\n"], "max_gen_toks": 12, "do_sample": False},
}  # fmt: skip
TASKS: dict[str, dict[str, Any]] = {
    "pydoc_next": {
        "output_type": "multiple_choice", "doc_to_text": "{{before}}\n\n",
        "doc_to_choice": "{{ways}}", "doc_to_target": "{{right}}", "target_delimiter": "",
        "metric_list": [
            {"metric": name, "aggregation": "mean", "higher_is_better": True}
            for name in ("acc", "acc_norm")
        ],
    },
    "pydoc_word": {
        "output_type": "loglikelihood", "doc_to_text": "{{before}}", "doc_to_target": " {{word}}",
        "metric_list": [
            {"metric": "perplexity", "aggregation": "perplexity", "higher_is_better": False},
            {"metric": "acc", "aggregation": "mean", "higher_is_better": True},
        ],
    },
    "pydoc_page": {
        "output_type": "loglikelihood_rolling", "doc_to_text": "", "doc_to_target": "{{page}}",
        "metric_list": [
            {"metric": "bits_per_byte", "aggregation": "bits_per_byte", "higher_is_better": False}
        ],
    },
    "pydoc_first": {**_FIRST, "num_fewshot": 3},
    "pydoc_chat": {**_FIRST, "num_fewshot": 2},
}  # fmt: skip


def prose(text: str) -> list[str]:
    """Paragraphs of sentences, without headings and programs."""
    found = []
    for part in text.split("\n\n"):
        plain = part.replace("\n", " ").strip()
        if (
            not part.startswith(" ")
            and len(plain) > 120
            and plain.endswith(".")
            and "*" not in plain
        ):
            found.append(plain)
    return found


def sentences(paragraph: str) -> list[str]:
    return re.split(r"(?<=[.])\s+(?=[A-Z])", paragraph)


def rows(samples: int, seed: int = 0) -> dict[str, list[dict[str, Any]]]:
    """What each task's data file holds."""
    drawn = random.Random(seed)
    pages = {name: prose(text) for name, text in sorted(topics.items())}
    runs = [(name, at) for name, found in pages.items() for at in range(4, len(found))]
    others = [(name, sentences(each)[0]) for name, found in pages.items() for each in found]
    following, words, firsts = [], [], []
    for name, at in drawn.sample(runs, samples):
        found = pages[name]
        wrong = drawn.sample([each for other, each in others if other != name], 3)
        right = drawn.randrange(4)
        ways = [*wrong[:right], sentences(found[at])[0], *wrong[right:]]
        following.append({"before": "\n\n".join(found[at - 3 : at]), "ways": ways, "right": right})
    for name, at in drawn.sample(runs, 3 * samples):
        before, _, word = " ".join(pages[name][at - 1 : at + 1]).rstrip(".").rpartition(" ")
        words += [{"before": before, "word": word}] if word.isalpha() else []
    for _, sentence in drawn.sample([each for each in others if each[1][0].isalpha()], samples):
        firsts.append({"sentence": sentence, "word": sentence.split()[0]})
    long = [text for _, text in sorted(topics.items()) if len(text) > 3000]
    texts = [{"page": text[:6000]} for text in drawn.sample(long, max(2, samples // 4))]
    return {"pydoc_next": following, "pydoc_word": words[:samples], "pydoc_page": texts,
            "pydoc_first": firsts, "pydoc_chat": firsts}  # fmt: skip


def write_tasks(folder: Path, samples: int) -> None:
    """Writes the tasks and their data into a folder, for --include-path."""
    for name, found in rows(samples).items():
        data = folder / f"{name}.jsonl"
        data.write_text("".join(json.dumps(row) + "\n" for row in found), encoding="utf-8")
        made = {
            "task": name, "dataset_path": "json", "test_split": "test",
            "dataset_kwargs": {"data_files": {"test": str(data)}}, **TASKS[name],
        }  # fmt: skip
        (folder / f"{name}.yaml").write_text(json.dumps(made), encoding="utf-8")


__all__ = ["KINDS", "TASKS", "write_tasks"]
