"""A batch job from file to file: stopped anywhere it goes on; what is wrong is said on its line."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from lengthwise.serving import batch_run
from lengthwise.serving.batch_files import BatchError, manifest_of, read_lines
from lengthwise.serving.batch_run import Summary, run_batch, usual_kv_bytes
from tests.called import called
from tests.serving.batch_cases import (
    SYSTEMS,
    alone,
    model,
    results,
    said,
    some_requests,
    text,
    write,
)


def job(folder: Path, lines: list[Any] | None = None, **options: Any) -> tuple[Summary, Path]:
    """Runs a job in a folder."""
    source, out = folder / "in.jsonl", folder / "out.jsonl"
    if lines is not None:
        write(source, lines)
    return run_batch(model(), source, out, **options), out


def test_every_answer_is_what_its_request_gets_alone(tmp_path: Path) -> None:
    requests = some_requests()
    done, out = job(tmp_path, requests)
    found = results(out)
    assert {name: said(row) for name, row in found.items()} == {
        request["custom_id"]: [alone(request)] for request in requests
    }
    assert done.answered == done.lines == 12 and done.refused == done.before == 0
    assert done.cost.groups == 3 and done.cost.read_tokens < done.cost.prompt_tokens / 2


def test_lines_have_the_form_of_openai(tmp_path: Path) -> None:
    _, out = job(tmp_path, [text("a", SYSTEMS[0] + "x", n=2), text("b", SYSTEMS[0] + "y")])
    found = results(out)
    row = found["a"]
    assert set(row) == {"id", "custom_id", "response", "error"} and row["error"] is None
    assert row["id"].startswith("batch_req_")
    assert set(row["response"]) == {"status_code", "request_id", "body"}
    body = row["response"]["body"]
    assert body["object"] == "text_completion" and body["id"].startswith("cmpl-")
    assert [choice["index"] for choice in body["choices"]] == [0, 1]
    assert {"text", "index", "logprobs", "finish_reason"} == set(body["choices"][0])
    usage = body["usage"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    assert usage["prompt_tokens_details"]["cached_tokens"] > 50
    assert found["b"]["id"] != row["id"]


def test_constraints_of_requests_hold_each_for_its_own_line(tmp_path: Path) -> None:
    plain = text("plain", SYSTEMS[0] + "z")
    _, out = job(tmp_path, [
        text("a", SYSTEMS[0] + "x", guided_choice=["yes", "no"], max_tokens=20), plain,
        text("b", SYSTEMS[0] + "y", response_format={"type": "json_schema", "json_schema": {
            "name": "s", "schema": {"type": "boolean"}}}, max_tokens=20),
        text("c", "x", guided_regex="(("), text("d", "x", guided_regex="a", guided_choice=["b"]),
    ])  # fmt: skip
    found = results(out)
    assert said(found["a"])[0] in ("yes", "no") and said(found["b"])[0] in ("true", "false")
    assert said(found["plain"]) == [alone(plain)]
    wrong = [found[name]["response"]["body"]["error"]["message"] for name in ("c", "d")]
    assert "unclosed group" in wrong[0] and "give one" in wrong[1]


def test_what_is_wrong_is_said_on_its_line(tmp_path: Path) -> None:
    right = text("right", "Once upon a time")
    lines = [
        right, "{no json", '["no", "object"]', json.dumps({"body": {}}),
        {**text("get", "x"), "method": "GET"}, {**text("url", "x"), "url": "/v1/embeddings"},
        {**text("bare", "x"), "body": None}, text("unknown", "x", logit_bias={"1": 2}),
        text("hot", "x", temperature=-1), text("none", "x", max_tokens=0), text("empty", ""),
        text("recipe", "x", recipe="yarm"), text("model", "x", model="gpt-4o"),
        text("stream", "x", stream=True), text("n", "x", n=0), text("two", ["x", "y"]),
        text("surrogate", "\udcff"), text("deep", "x", stop=[1]), text("ids", [1, 99999]),
        "[" * 5000,
    ]  # fmt: skip
    done, out = job(tmp_path, lines)
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert done.answered == 1 and done.refused == len(rows) - 1 == len(lines) - 1
    assert said(next(row for row in rows if row["custom_id"] == "right")) == [alone(right)]
    for row in rows:
        if row["custom_id"] == "right":
            continue
        if row["response"] is None:
            assert row["error"]["code"] and row["error"]["message"] and row["error"]["line"] > 1
        else:
            assert 400 <= row["response"]["status_code"] < 500 and row["error"] is None
            assert row["response"]["body"]["error"]["message"], row
    assert sorted(row["error"]["line"] for row in rows if row["custom_id"] is None) == [2, 3, 4, 20]
    # And none of them is run, or said, again.
    before = out.read_bytes()
    again, _ = job(tmp_path)
    assert again.before == len(lines) and again.answered == again.refused == 0
    assert out.read_bytes() == before


def test_a_line_on_which_we_fail_is_an_error_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = batch_run.asks_of

    def broken(line: Any, *given: Any) -> Any:
        return 1 // 0 if line.custom_id == "broken" else real(line, *given)

    monkeypatch.setattr(batch_run, "asks_of", broken)
    right = text("right", "Once upon a time")
    done, out = job(tmp_path, [text("broken", "x"), right])
    found = results(out)
    assert (done.answered, done.refused) == (1, 1) and said(found["right"]) == [alone(right)]
    response = found["broken"]["response"]
    assert response["status_code"] == 500
    assert response["body"]["error"]["code"] == "internal_error"


def test_custom_ids_that_stand_twice_are_refused_with_their_lines(tmp_path: Path) -> None:
    lines = [text("a", "x"), "", text("b", "y"), text("a", "z"), text("b", "y")]
    with pytest.raises(BatchError, match=r"'a' stands on lines 1, 4 \(and 1 other custom_ids\)"):
        job(tmp_path, lines)
    assert not (tmp_path / "out.jsonl").exists()


@pytest.mark.parametrize(("content", "said"), [(b"", "no request"), (b"\n \n", "no request")])
def test_an_input_without_requests_is_refused(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "in.jsonl").write_bytes(content)
    with pytest.raises(BatchError, match=said):
        read_lines(tmp_path / "in.jsonl")
    with pytest.raises(BatchError, match="cannot be read"):
        read_lines(tmp_path / "nope")


def test_bytes_that_are_no_utf8_are_an_error_of_their_line(tmp_path: Path) -> None:
    raw = b"\xef\xbb\xbf" + json.dumps(text("a", "x")).encode() + b"\n\xff\xfe\n"
    (tmp_path / "in.jsonl").write_bytes(raw)
    lines, digest = read_lines(tmp_path / "in.jsonl")
    assert [line.error and line.error[0] for line in lines] == [None, "invalid_json_line"]
    assert len(digest) == 64


class Stopped(Exception):
    pass


@pytest.mark.parametrize("torn", [0, 1, 15, 60])
def test_a_job_that_was_stopped_goes_on_and_a_torn_line_is_written_anew(
    tmp_path: Path, torn: int
) -> None:
    requests = some_requests()
    (tmp_path / "whole").mkdir()
    _, whole = job(tmp_path / "whole", requests)

    def stop(done: int, of: int) -> None:
        if done == 5:
            raise Stopped

    with pytest.raises(Stopped):
        job(tmp_path, requests, progress=stop)
    out = tmp_path / "out.jsonl"
    kept = out.read_bytes()
    assert kept.count(b"\n") == 5
    line = whole.read_bytes().splitlines()[-1]
    out.write_bytes(kept + line[:torn])
    done, _ = job(tmp_path)
    assert done.before == 5 and done.answered == 7
    assert out.read_bytes().startswith(kept)
    assert texts(out) == texts(whole)


def texts(out: Path) -> dict[str, list[str]]:
    return {name: said(row) for name, row in results(out).items()}


def test_what_is_done_tells_how_much_is_written(tmp_path: Path) -> None:
    requests = some_requests()
    job(tmp_path, requests)
    lines, _ = read_lines(tmp_path / "in.jsonl")
    out = tmp_path / "out.jsonl"
    rows = out.read_bytes().splitlines(keepends=True)
    out.write_bytes(b"".join(rows[:-1]))
    seen: list[Any] = []

    def runner(*_: Any) -> Any:
        def run(todo: Any, told: Any, lengths: Any) -> Any:
            seen.append((len(todo), lengths.expected(4)))
            return Summary(0, 0).cost

        return run

    job(tmp_path, runner=runner)
    assert len(lines) == 12 and seen[0][0] == 1 and seen[0][1] <= 4


def test_an_output_of_another_job_is_refused_and_overwritten_on_demand(tmp_path: Path) -> None:
    requests = some_requests(2)
    _, out = job(tmp_path, requests)
    before = out.read_bytes()
    write(tmp_path / "in.jsonl", some_requests(3))
    with pytest.raises(BatchError, match="belongs to another input file"):
        job(tmp_path)
    write(tmp_path / "in.jsonl", requests)
    with pytest.raises(BatchError, match="the recipe 'full'"):
        job(tmp_path, recipe="lookup")
    assert out.read_bytes() == before
    manifest = json.loads(manifest_of(out).read_text())
    manifest_of(out).write_text(json.dumps({**manifest, "model": "0" * 16}))
    with pytest.raises(BatchError, match="another model"):
        job(tmp_path)
    done, _ = job(tmp_path, force=True)
    assert done.before == 0 and done.answered == 2
    assert job(tmp_path, force=True)[0].before == 2


def test_an_output_that_is_none_is_left_alone(tmp_path: Path) -> None:
    write(tmp_path / "in.jsonl", some_requests(1))
    out = tmp_path / "out.jsonl"
    for content in (b"years of work", b'{"a": 1}\n'):
        out.write_bytes(content)
        with pytest.raises(BatchError, match="--force"):
            job(tmp_path)
        assert out.read_bytes() == content
    # Nor is one whose manifest is still there.
    job(tmp_path, force=True)
    out.write_bytes(b"years of work")
    with pytest.raises(BatchError, match="--force"):
        job(tmp_path)
    assert out.read_bytes() == b"years of work"


def test_a_line_that_was_damaged_by_hand_is_named(tmp_path: Path) -> None:
    _, out = job(tmp_path, some_requests(3))
    rows = out.read_bytes().splitlines(keepends=True)
    out.write_bytes(rows[0] + rows[1][:-20] + b"\n" + rows[2])
    with pytest.raises(BatchError, match="line 2 is damaged"):
        job(tmp_path)


def test_two_jobs_do_not_write_one_output(tmp_path: Path) -> None:
    write(tmp_path / "in.jsonl", some_requests(2))

    def second(done: int, of: int) -> None:
        if done == 0:
            with pytest.raises(BatchError, match="another batch job writes there"):
                run_batch(model(), tmp_path / "in.jsonl", tmp_path / "out.jsonl")

    done, _ = job(tmp_path, progress=second)
    assert done.answered == 2


def test_lines_are_on_the_disk_before_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    out = tmp_path / "out.jsonl"
    fsync = os.fsync

    def noted(handle: int) -> None:
        fsync(handle)
        if out.exists():
            synced.append(out.read_bytes().count(b"\n"))

    monkeypatch.setattr(os, "fsync", noted)
    job(tmp_path, some_requests(4))
    assert [count for count in synced if count] == [1, 2, 3, 4]


def test_some_memory_is_taken_where_nothing_is_said() -> None:
    assert usual_kv_bytes(model()) > 1 << 20


# The verb.


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tests.bad_world import make_world

    place = tmp_path_factory.mktemp("world")
    make_world(place)
    return place


def chat(name: str, said: str, **body: Any) -> dict[str, Any]:
    messages = [{"role": "system", "content": SYSTEMS[0]}, {"role": "user", "content": said}]
    asked = {"messages": messages, "max_tokens": 8, "temperature": 0, **body}
    return {"custom_id": name, "method": "POST", "url": "/v1/chat/completions", "body": asked}


def test_the_verb_answers_chats_and_says_what_was_shared(world: Path, tmp_path: Path) -> None:
    source = write(tmp_path / "in.jsonl", [chat(f"c{n}", f"Hi {n}") for n in range(4)]
                   + [chat("named", "Hi", model="talker:lookup"), chat("other", "Hi", model="gpt"),
                      "{"])  # fmt: skip
    out = tmp_path / "out.jsonl"
    words = ("batch", str(source), str(out), "-m", str(world / "talker"), "--dtype", "fp32",
             "--kv-bytes", "64MB", "--name", "gpt")  # fmt: skip
    status, shown, err = called(*words)
    assert status == 0, err
    assert "6 answered, 1 refused, 0 done before, of 7" in shown and "shared by 1 group" in shown
    row = next(r for r in map(json.loads, out.read_text().splitlines()) if r["custom_id"] == "c0")
    body = row["response"]["body"]
    assert body["object"] == "chat.completion" and body["id"].startswith("chatcmpl-")
    assert body["choices"][0]["message"]["role"] == "assistant" and body["model"] == "gpt"
    status, shown, err = called(*words)
    assert status == 0 and "0 answered, 0 refused, 7 done before, of 7" in shown
    status, _, err = called(*words, "-r", "lookup")
    assert status == 2 and "belongs to the recipe 'full'" in err


@pytest.mark.parametrize(("more", "said"), [
    (("--kv-bytes", "0"), "holds nothing"), (("--kv-bytes", "x"), "is no number of bytes"),
    (("--replicas", "2"), "--engine ray"), (("-r", "yarm"), "yarm"),
])  # fmt: skip
def test_what_is_wrong_is_said_before_a_model_is_read(
    tmp_path: Path, more: tuple[str, ...], said: str
) -> None:
    source = write(tmp_path / "in.jsonl", some_requests(1))
    words = ("batch", str(source), str(tmp_path / "out"), "-m", "nope", *more)
    status, _, err = called(*words)
    assert status == 2 and said in err and not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_job_that_is_killed_loses_no_line_and_goes_on(world: Path, tmp_path: Path) -> None:
    """kill -9, twice, in the midst of it; then to the end."""
    lines = [text(f"r{n}", SYSTEMS[n % 3] + str(n), max_tokens=60) for n in range(40)]
    source, out = write(tmp_path / "in.jsonl", lines), tmp_path / "out.jsonl"
    words = ("batch", str(source), str(out), "-m", str(world / "model"), "--dtype", "fp32",
             "--kv-bytes", "500KB")  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    kept = b""
    for _ in range(2):
        running = subprocess.Popen(
            [sys.executable, "-m", "lengthwise", *words], env=environment,
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        )  # fmt: skip
        deadline = time.monotonic() + 120
        while running.poll() is None and time.monotonic() < deadline:
            if out.exists() and out.read_bytes().count(b"\n") > kept.count(b"\n"):
                break
            time.sleep(0.005)
        assert running.poll() is None, running.stderr and running.stderr.read()
        running.send_signal(signal.SIGKILL)
        running.wait()
        found = out.read_bytes()
        assert found.startswith(kept)
        kept = found[: found.rfind(b"\n") + 1]
        assert 0 < kept.count(b"\n") < 40
    status, shown, err = called(*words)
    assert status == 0, err
    left = 40 - kept.count(b"\n")
    assert f"{left} answered" in shown
    assert out.read_bytes().startswith(kept)
    fresh = tmp_path / "fresh.jsonl"
    assert called(*words[:2], str(fresh), *words[3:])[0] == 0
    assert texts(out) == texts(fresh) and len(texts(out)) == 40
