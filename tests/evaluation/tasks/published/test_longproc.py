"""LongProc of rows in its format: prompts from the file beside them, both scores, errors."""

from __future__ import annotations

from pathlib import Path

import pytest

from lengthwise.errors import LengthwiseError
from lengthwise.evaluation.sandbox import cpp
from lengthwise.evaluation.sandbox.cpp import compiler_missing
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
CODE = {
    "pseudocode_lines": ["read a and b", "print their sum"],
    "code_lines": ["int main() { int a, b; cin >> a >> b;", "cout << a + b << endl; }"],
    "testcases": [[["1 2"], ["3"]], [["-1 1"], ["0"]]],
}  # fmt: skip
PROMPTS = {
    "pseudo_to_code": "Write C++ for this:\n{pseudocode}\nIn a block of ```cpp.",
    "path_traversal": "Find a way.\n{city_context}\nNow go from {src_city} to {dst_city}.",
    "tom_tracking": "Follow this: {story}\nAsked: {question} {{x}}",
}


def files(folder: Path, task: str) -> None:
    kind = task.rpartition("_")[0]
    rows = {"path_traversal": PATH, "tom_tracking": MIND, "pseudo_to_code": CODE}
    write(folder, f"{kind}/{task}.json", [rows[kind]])
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


def test_code_is_compiled_and_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files(tmp_path, "pseudo_to_code_2k")
    with pytest.raises(LengthwiseError, match="needs leave to run the code"):
        task_of("longproc", tmp_path, "pseudo_to_code_2k")
    monkeypatch.setenv("HF_ALLOW_CODE_EVAL", "1")
    if compiler_missing():
        pytest.skip("no C++ compiler")
    task = task_of("longproc", tmp_path, "pseudo_to_code_2k")
    (sample,) = task.samples(wanted())
    assert sample.context == "Write C++ for this:\nread a and b\nprint their sum"
    assert sample.question == "In a block of ```cpp." and sample.most == 3072
    (right,) = sample.references
    assert task.score(f"```cpp\n{right}\n```", sample) == {"accuracy": 1.0, "partial": 1.0}
    half = "int main() { cout << 3 << endl; }"
    assert task.score(f"```c++\n{half}\n```", sample) == {"accuracy": 0.0, "partial": 0.5}
    for wrong in ("```cpp\nint main( {}\n```", "int main() {}", ""):
        assert task.score(wrong, sample) == {"accuracy": 0.0, "partial": 0.0}


def test_a_missing_compiler_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files(tmp_path, "pseudo_to_code_0.5k")
    monkeypatch.setenv("HF_ALLOW_CODE_EVAL", "1")
    monkeypatch.setattr(cpp.shutil, "which", lambda name: None)
    with pytest.raises(LengthwiseError, match=r"needs a C\+\+ compiler: install one of g\+\+"):
        task_of("longproc", tmp_path, "pseudo_to_code_0.5k")
