"""LongProc of rows in its format: prompts from the file beside them, both scores, errors."""

from __future__ import annotations

from pathlib import Path

import pytest

from lengthwise.errors import LengthwiseError
from tests.evaluation.tasks.published.published_cases import task_of, wanted, write

PATH = {
    "context_nl": "From Aldby a bus goes to Carrow.\nFrom Carrow a train goes to Orrest.",
    "question_repr": ["Aldby", "Orrest"],
    "answer_nl": "Bus from Aldby to Carrow.\nTrain from Carrow to Orrest.",
}
MIND = {
    "story": "Mara puts the key into the box. Tom leaves.", "question": "Where is {{it}}?",
    "solution": "- Step 1: Mara thinks box\n- Step 2: Tom thinks box",
}  # fmt: skip
PROMPTS = {
    "path_traversal": "Find a way.\n{city_context}\nNow go from {src_city} to {dst_city}.",
    "tom_tracking": "Follow this: {story}\nAsked: {question} {{x}}",
}


def files(folder: Path, task: str) -> None:
    kind = task.rpartition("_")[0]
    write(folder, f"{kind}/{task}.json", [PATH if kind == "path_traversal" else MIND])
    quoted = PROMPTS[kind].replace("\n", "\n  ")
    (folder / kind / "prompts.yaml").write_text(f"USER_PROMPT: |\n  {quoted}\n", encoding="utf-8")


def test_a_way_of_cities(tmp_path: Path) -> None:
    files(tmp_path, "path_traversal_2k")
    task = task_of("longproc", tmp_path, "path_traversal_2k")
    (sample,) = task.samples(wanted())
    assert sample.context == f"Find a way.\n{PATH['context_nl']}" and sample.most == 3072
    assert sample.question == "Now go from Aldby to Orrest."
    first, second = sample.references[0].split("\n")
    right = task.score(f"<Route>\n{first}\n{second}\n</Route>", sample)
    assert right == {"accuracy": 1.0, "partial": 1.0}
    half = task.score(f"<Route>\n{first}\n</Route>", sample)
    assert half == {"accuracy": 0.0, "partial": 0.5}
    assert task.score("no way", sample) == {"accuracy": 0.0, "partial": 0.0}


def test_who_believes_what(tmp_path: Path) -> None:
    files(tmp_path, "tom_tracking_0.5k")
    task = task_of("longproc", tmp_path, "tom_tracking_0.5k")
    (sample,) = task.samples(wanted())
    assert sample.context == f"Follow this: {MIND['story']}"
    assert sample.question == "Asked: Where is {{it}}? {x}"
    assert task.score(MIND["solution"], sample) == {"accuracy": 1.0, "partial": 1.0}
    assert task.score("- Step 1: Mara thinks bag", sample) == {"accuracy": 0.0, "partial": 0.0}


def test_prompts_must_lie_beside_the_data(tmp_path: Path) -> None:
    files(tmp_path, "tom_tracking_8k")
    path = tmp_path / "tom_tracking" / "prompts.yaml"
    path.write_text("OTHER: text\n", encoding="utf-8")
    task = task_of("longproc", tmp_path, "tom_tracking_8k")
    with pytest.raises(LengthwiseError, match=r"has no USER_PROMPT with \{story\}"):
        task.samples(wanted())
    path.unlink()
    with pytest.raises(LengthwiseError, match="cannot be read"):
        task.samples(wanted())
