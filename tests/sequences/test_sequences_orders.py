"""The order icp: a path that visits each document once and keeps related ones together."""

from __future__ import annotations

import builtins
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from lengthwise._utils.progress import Progress
from lengthwise.cli.sequences import sequences
from lengthwise.sequences import neighbours as search
from lengthwise.sequences.build import Settings, open_order
from lengthwise.sequences.documents import Sources
from lengthwise.sequences.embeddings import embed
from lengthwise.sequences.encoder import ByteEncoder
from lengthwise.sequences.errors import SequenceError
from lengthwise.sequences.icp import DUPLICATES, duplicates, walk
from lengthwise.sequences.neighbours import NEAR, NEAREST, NOBODY, neighbours
from lengthwise.sequences.orders import Stored, count_of
from lengthwise.sequences.records import Fields
from lengthwise.sequences.token_store import TokenStore
from lengthwise.sequences.tokenise import tokenise
from tests.sequence_runs import (
    CLI,
    goes_on_to_the_same_bytes,
    jsonl,
    rows_of,
    run,
    some_texts,
    tree,
)

SUBJECTS = 12


def texts_by_subject(each: int, seed: int = 0) -> list[str]:
    """`each` texts of every subject, mixed; a subject has words of its own among common ones."""
    chance = np.random.default_rng(seed)

    def word() -> str:
        return "".join(chance.choice(list("abcdefghijklmnop"), chance.integers(3, 8)))

    common = [word() for _ in range(60)]
    own = [[word() for _ in range(30)] for _ in range(SUBJECTS)]
    return [
        " ".join(chance.choice(own[n % SUBJECTS] + common, chance.integers(60, 120)))
        for n in range(each * SUBJECTS)
    ]


def store_of(place: Path, texts: list[str]) -> TokenStore:
    place.mkdir(parents=True, exist_ok=True)
    source = Sources((str(jsonl(place / "a.jsonl", texts)),), Fields())
    tokenise(source, ByteEncoder(), place / "tokens", "key", Progress(), 1 << 16)
    return TokenStore(place / "tokens")


def path_of(store: TokenStore, place: Path) -> np.ndarray:
    order = open_order(Settings("icp"), store, place, ByteEncoder())
    return order.documents(0, count_of(order, store))


def without_faiss(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def refuse(name: str, *rest: Any, **others: Any) -> Any:
        if name == "faiss":
            raise ImportError(name)
        return real(name, *rest, **others)

    monkeypatch.setattr(builtins, "__import__", refuse)


@pytest.mark.parametrize("faiss", [True, False])
def test_the_path_visits_each_document_once_and_stays_with_its_subject(
    tmp_path: Path, faiss: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if faiss:
        pytest.importorskip("faiss")
    else:
        without_faiss(monkeypatch)
    store = store_of(tmp_path, texts_by_subject(20))
    path = path_of(store, tmp_path)
    assert sorted(path.tolist()) == list(range(20 * SUBJECTS))
    same = np.mean(np.diff(path % SUBJECTS) == 0)
    shuffled = np.random.default_rng(0).permutation(path)
    assert same > 0.8
    assert np.mean(np.diff(shuffled % SUBJECTS) == 0) < 0.2


def test_neighbours_on_the_path_are_more_alike_than_shuffled_ones(tmp_path: Path) -> None:
    store = store_of(tmp_path, texts_by_subject(20))
    vectors = embed(store, tmp_path / "vectors", None, None, Progress())
    path = path_of(store, tmp_path)

    def mean_cosine(order: np.ndarray) -> float:
        return float((vectors[order[1:]] * vectors[order[:-1]]).sum(1).mean())

    shuffled = mean_cosine(np.random.default_rng(0).permutation(path))
    assert mean_cosine(path) > 1.5 * shuffled
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1, abs=1e-5)


def test_each_step_within_a_stretch_goes_to_one_of_the_nearest(tmp_path: Path) -> None:
    store = store_of(tmp_path, texts_by_subject(10))
    path = path_of(store, tmp_path)
    near = np.fromfile(tmp_path / "neighbours.bin", NEAR).reshape(-1, NEAREST)["document"]
    visited = np.zeros(len(path), bool)
    jumps = 0
    for here, there in zip(path[:-1], path[1:], strict=True):
        visited[here] = True
        free = [n for n in near[here] if n != NOBODY and not visited[n]]
        if free:
            assert there == free[0]
        jumps += not free
    assert jumps < len(path) / 4


def test_the_walk_starts_at_the_document_fewest_have_for_a_neighbour_and_jumps() -> None:
    near = np.empty((5, NEAREST), NEAR)
    near["document"], near["cosine"] = NOBODY, 0.5
    for document, others in enumerate([[1], [0], [0, 1], [4], [3]]):
        near["document"][document, : len(others)] = others
    found = np.concatenate(list(walk(near, np.zeros(5, bool))))
    assert found.tolist() == [2, 0, 1, 3, 4]
    left_out = np.array([True, False, False, False, False])
    assert np.concatenate(list(walk(near, left_out))).tolist() == [2, 1, 3, 4]


def test_near_duplicates_are_left_out_and_counted(tmp_path: Path) -> None:
    texts = texts_by_subject(5)
    copies = [texts[7], texts[7] + " more", texts[30].replace("a", "a", 1), texts[31][:-5]]
    place = tmp_path / "out"
    found = run([jsonl(tmp_path / "a.jsonl", texts + copies)], place, "concat", order="icp",
                shuffle_rows=False)  # fmt: skip
    ids = np.concatenate([row.input_ids for row in rows_of(found)])
    assert found.manifest["documents"] == len(texts) + 4
    assert found.manifest["dropped"][DUPLICATES] == sum(len(text) + 1 for text in copies)
    written = sum(len(text) + 1 for text in texts)
    tail = sum(found.manifest["dropped"].values()) - found.manifest["dropped"][DUPLICATES]
    assert len(ids) + tail == written
    assert 0 <= tail < 64


def test_what_resembles_a_left_out_document_only_stays() -> None:
    """2 is like 1 and 1 like 0: 1 goes, and 2 has nobody left that it repeats."""
    near = np.empty((3, NEAREST), NEAR)
    near["document"], near["cosine"] = NOBODY, 1
    near["document"][1, 0], near["document"][2, 0] = 0, 1
    assert duplicates(near, lambda a, b: True).tolist() == [False, True, False]
    near["cosine"] = 0.5
    assert not duplicates(near, lambda a, b: True).any()


def test_exact_search_and_faiss_find_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("faiss")
    vectors = np.random.default_rng(0).normal(size=(600, 32)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    one = neighbours(vectors, tmp_path / "faiss.bin", Progress())
    without_faiss(monkeypatch)
    other = neighbours(vectors, tmp_path / "plain.bin", Progress())
    assert (one["document"] == other["document"]).all()
    assert np.abs(one["cosine"] - other["cosine"]).max() < 1e-5
    assert not (one["document"] == np.arange(600)[:, None]).any()


def test_beyond_the_exact_search_most_true_neighbours_are_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("faiss")
    chance = np.random.default_rng(0)
    centres = chance.normal(size=(300, 32))
    vectors = (centres[np.arange(3000) % 300] + 0.1 * chance.normal(size=(3000, 32))).astype("f4")
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    monkeypatch.setattr(search, "EXACT", 1000)
    found = neighbours(vectors, tmp_path / "near.bin", Progress())["document"]
    same = found % 300 == np.arange(3000)[:, None] % 300
    assert same.mean() > 0.95


def test_two_documents_and_one_have_the_neighbours_there_are(tmp_path: Path) -> None:
    for count in (1, 2):
        place = tmp_path / str(count)
        store = store_of(place, texts_by_subject(1)[:count])
        assert sorted(path_of(store, place).tolist()) == list(range(count))


def test_too_many_documents_without_faiss_are_refused_by_the_name_of_what_helps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_faiss(monkeypatch)
    monkeypatch.setattr(search, "WITHOUT_FAISS", 20)
    source = [jsonl(tmp_path / "a.jsonl", some_texts(30, 50))]
    with pytest.raises(SequenceError, match="pip install faiss-cpu"):
        run(source, tmp_path / "out", "concat", order="icp")


def test_an_encoder_that_is_none_or_asked_for_in_vain_is_refused(tmp_path: Path) -> None:
    source = [jsonl(tmp_path / "a.jsonl", some_texts(30, 50))]
    with pytest.raises(SequenceError, match="is no folder"):
        run(source, tmp_path / "a", "concat", order="icp", encoder=str(tmp_path / "nothing"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(SequenceError, match="cannot be loaded"):
        run(source, tmp_path / "b", "concat", order="icp", encoder=str(tmp_path / "empty"))
    with pytest.raises(SequenceError, match="needs none"):
        Settings("shuffle", encoder="model")


def test_a_transformers_encoder_embeds_the_texts(tmp_path: Path) -> None:
    import torch
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    from lengthwise.sequences.encoder import byte_tokenizer

    torch.manual_seed(0)
    config = BertConfig(vocab_size=300, hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
                        intermediate_size=32, max_position_embeddings=64)  # fmt: skip
    BertModel(config).save_pretrained(tmp_path / "model")
    PreTrainedTokenizerFast(
        tokenizer_object=byte_tokenizer(), eos_token="<|endoftext|>"
    ).save_pretrained(tmp_path / "model")
    texts = texts_by_subject(2)
    store = store_of(tmp_path, texts)
    found = embed(store, tmp_path / "vectors", ByteEncoder(), str(tmp_path / "model"), Progress())
    model = BertModel.from_pretrained(tmp_path / "model").eval()
    for number in (0, 17, 23):
        ids = torch.tensor([list(texts[number].encode()[:64])])
        with torch.inference_mode():
            wanted = model(ids).last_hidden_state.mean(1)[0]
        assert found[number] == pytest.approx((wanted / wanted.norm()).numpy(), abs=1e-4)


def test_pairs_survive_an_order_that_leaves_documents_out(tmp_path: Path) -> None:
    texts = texts_by_subject(2)
    for n in range(8):
        (tmp_path / "p").mkdir(exist_ok=True)
        (tmp_path / "p" / f"m{n}.py").write_text(texts[n])
        (tmp_path / "p" / f"test_m{n}.py").write_text(texts[12 + n // 2])
    found = run([tmp_path / "p"], tmp_path / "out", "pair", 2048, order="icp")
    assert found.manifest["figures"]["pairs"] == 4
    dropped = sum(found.manifest["dropped"].values())
    added = found.manifest["figures"]["tokens_added"]
    assert found.manifest["tokens"] - added + dropped == found.manifest["document_tokens"]
    assert found.manifest["dropped"][DUPLICATES] > 0


def test_a_run_that_failed_anywhere_goes_on_to_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lengthwise.sequences.tokenise.COMMIT_S", 0.0)
    monkeypatch.setattr("lengthwise.sequences.plan.PART_TOKENS", 4096)
    monkeypatch.setattr("lengthwise.sequences.plan.PART_ROWS", 1)
    texts = texts_by_subject(4)
    source = [jsonl(tmp_path / "a.jsonl", [*texts, texts[3]])]
    goes_on_to_the_same_bytes(
        tmp_path, lambda out: run(source, out, "concat", order="icp"), (2, 3), 5, monkeypatch
    )


@pytest.mark.slow
def test_killed_at_any_time_and_run_again_gives_the_same_bytes(tmp_path: Path) -> None:
    source = jsonl(tmp_path / "a.jsonl", texts_by_subject(10))
    slow = (
        "import os, time; real = os.replace\n"
        "def replace(*a):\n    time.sleep(0.05); real(*a); time.sleep(0.05)\n"
        "os.replace = replace\n"
        "import lengthwise.sequences.plan as p; p.PART_TOKENS = 8192; p.PART_ROWS = 1\n"
    )

    def start(out: Path) -> subprocess.Popen[bytes]:
        words = ["build", str(source), "--out", str(out), "-m", "utk", "-n", "256", "-t", "bytes"]
        command = [sys.executable, "-c", slow + CLI, *words, "--order", "icp"]
        return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    assert start(tmp_path / "whole").wait() == 0
    for wait in (0.25, 0.5, 0.75):
        child = start(tmp_path / "killed")
        while child.poll() is None and not (tmp_path / "killed").exists():
            time.sleep(0.01)
        time.sleep(wait)
        child.kill()
        child.wait()
    assert start(tmp_path / "killed").wait() == 0
    assert tree(tmp_path / "killed") == tree(tmp_path / "whole")


def test_memory_given_does_not_change_the_path(tmp_path: Path) -> None:
    source = [jsonl(tmp_path / "a.jsonl", texts_by_subject(5))]
    for name, memory in (("small", 256 << 20), ("large", 2 << 30)):
        run(source, tmp_path / name, "concat", order="icp", memory=memory)
    assert tree(tmp_path / "small") == tree(tmp_path / "large")


def test_the_command_says_that_masked_methods_gain_nothing(tmp_path: Path) -> None:
    source = jsonl(tmp_path / "a.jsonl", texts_by_subject(2))
    words = ["build", str(source), "--out", str(tmp_path / "out"), "-t", "bytes", "-n", "64",
             "-m", "best-fit", "--order", "icp"]  # fmt: skip
    done = CliRunner().invoke(sequences, words)
    assert done.exit_code == 0, done.output
    assert "does nothing for it" in done.stderr


def test_the_curriculum_is_a_command_of_sequences() -> None:
    done = CliRunner().invoke(sequences, ["curriculum", "--buckets", "256=64,512=32",
                                          "--tokens-per-step", "2048"])  # fmt: skip
    assert done.exit_code == 0, done.output
    assert "steps" in done.output


def test_a_stored_order_knows_how_many_documents_it_has(tmp_path: Path) -> None:
    np.array([4, 1, 3]).tofile(tmp_path / "order.bin")
    order = Stored(tmp_path / "order.bin", {"why": 7})
    assert (order.count, order.left_out) == (3, {"why": 7})
    assert order.documents(1, 3).tolist() == [1, 3]
