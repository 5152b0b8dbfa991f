"""Bodies of a batch file: what is wrong with one is said on its line, and the others are run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lengthwise.serving.batch_run import run_batch
from tests.chat_models import chat_model
from tests.serving.batch_cases import results, write


def test_no_line_ends_the_job(tmp_path: Path) -> None:
    joined = "{% for m in messages %}{{ '<' + m['role'] + '>' + m['content'] }}{% endfor %}"
    chatting = chat_model(joined)
    messages = [{"role": "user", "content": "hi"}]

    def chat(name: str, **body: Any) -> dict[str, Any]:
        asked = {"messages": messages, "max_tokens": 4, "temperature": 0, **body}
        return {"custom_id": name, "method": "POST", "url": "/v1/chat/completions", "body": asked}

    silent = [*messages, {"role": "assistant", "content": None}]
    lines = [
        chat("silent", messages=silent), chat("list", max_tokens=[5]), chat("right"),
        chat("both", max_completion_tokens={"a": 1}), chat("differ", max_completion_tokens=5),
        chat("same", max_completion_tokens=4),
    ]  # fmt: skip
    source, out = write(tmp_path / "in.jsonl", lines), tmp_path / "out.jsonl"
    done = run_batch(chatting, source, out)
    assert (done.answered, done.refused) == (2, 4)
    found = results(out)
    for name, words in (
        ("silent", "message 2 has the content None"), ("list", "max_tokens=[5]"),
        ("both", "max_completion_tokens={'a': 1}"), ("differ", "differ; give one"),
    ):  # fmt: skip
        response = found[name]["response"]
        assert response["status_code"] == 400
        assert words in response["body"]["error"]["message"]
    for name in ("right", "same"):
        (choice,) = found[name]["response"]["body"]["choices"]
        assert choice["message"]["content"] == chatting.generate(messages, max_new_tokens=4).text
