"""`utk` and `pair`: knots untie to the documents, and related files stand together, code first."""

from __future__ import annotations

import json
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers

from lengthwise._utils.counter_rng import CounterRng, words
from lengthwise.sequences.builders.pair import TOKEN
from lengthwise.sequences.builders.utk import Utk
from lengthwise.sequences.encoder import Encoder
from lengthwise.sequences.errors import SequenceError
from lengthwise.sequences.pairing import match, project_of, subject_of
from lengthwise.sequences.rows import Documents
from lengthwise.sequences.store import Row, SequenceSet
from lengthwise.sequences.token_store import ranges
from tests.sequence_runs import goes_on_to_the_same_bytes, jsonl, rows_of, run, some_texts, tree

END = 256


def documents(lengths: list[int]) -> Documents:
    sizes = np.array(lengths)
    return Documents(np.arange(len(sizes)), np.cumsum(sizes + 7) - sizes, sizes)


def small_parts(monkeypatch: pytest.MonkeyPatch, tokens: int) -> None:
    monkeypatch.setattr("lengthwise.sequences.plan.PART_TOKENS", tokens)
    monkeypatch.setattr("lengthwise.sequences.plan.PART_ROWS", 1)


def untied(row: list[int], names: dict[int, str]) -> list[int]:
    """A row with names, the chunks of each document put together again.

    Reads what a model reads: names of chunks, and the lists of them in reading order.
    """
    ids = {name: id_ for id_, name in names.items()}
    chunks: dict[tuple[int, ...], list[int]] = {}
    documents: list[list[int]] = [[]]
    current, place = documents[0], 0
    while place < len(row):
        token = row[place]
        if token == ids["<|chunk|>"]:
            stop = row.index(ids["<|/chunk|>"], place)
            current = chunks[tuple(row[place + 1 : stop])] = []
            place = stop
        elif token == ids["<|trace|>"]:
            stop = row.index(ids["<|/trace|>"], place)
            listed, start = [], place + 1
            for at in range(place + 1, stop + 1):
                if row[at] in (ids["<|then|>"], ids["<|/trace|>"]):
                    listed.append(tuple(row[start:at]))
                    start = at + 1
            documents.append([token for name in listed for token in chunks.pop(name)])
            place = stop
        elif token not in names:
            current.append(token)
        if token == END or "_out" in names.get(token, "") or token == ids["<|trace|>"]:
            current = []
            documents.append(current)
        place += 1
    assert not chunks, "a trace names every chunk"
    return [token for document in documents for token in document]


def prepared(**options: Any) -> tuple[Utk, dict[int, str]]:
    from lengthwise.sequences.encoder import ByteEncoder

    method = Utk(**options)
    encoder = ByteEncoder()
    names = {id_: token for token, id_ in encoder.add(method.tokens).items()}
    method.prepare(None, encoder, 1)  # type: ignore[arg-type]  # it asks nothing of the store
    return method, names


@settings(max_examples=60, deadline=None)
@given(
    lengths=st.lists(st.integers(2, 300), min_size=1, max_size=30),
    cuts=st.sampled_from(["random", "equal"]),
    keep_order=st.booleans(),
    backtrace=st.booleans(),
)
def test_every_token_is_in_one_row_and_rows_are_full(
    lengths: list[int], cuts: str, keep_order: bool, backtrace: bool
) -> None:
    method, _ = prepared(max_length=128, untouched=0.2, cuts=cuts, keep_order=keep_order,
                         backtrace=backtrace, odds="1:2:2:1")  # fmt: skip
    given_documents = documents(lengths)
    built = method.build(given_documents, 3)
    rows = built.rows[0]
    real = rows.starts >= 0
    places = np.sort(ranges(rows.starts[real], rows.lengths[real]))
    whole = ranges(given_documents.starts, given_documents.lengths)
    assert places.tolist() == whole.tolist()
    assert (rows.sizes()[:-1] == 128).all()
    assert built.figures["tokens_added"] == int((~real).sum())
    assert not built.dropped


def marked(count: int) -> list[str]:
    """Texts of one letter each, running through the alphabet."""
    return [chr(97 + n % 26) * (20 + n * 37 % 120) for n in range(count)]


def rows_with_names(found: SequenceSet) -> tuple[list[list[int]], dict[int, str]]:
    names = {id_: token for token, id_ in found.manifest["added_tokens"].items()}
    return [row.input_ids.tolist() for row in rows_of(found)], names


@pytest.mark.parametrize("keep_order", ["true", "false"])
def test_named_knots_untie_to_the_original_documents(tmp_path: Path, keep_order: str) -> None:
    """Untied rows, one after another, are the documents with nothing between or out of place."""
    chance = np.random.default_rng(0)
    texts = [bytes(chance.integers(32, 127, n).astype(np.uint8)).decode() + "." for n in
             chance.integers(20, 200, 60)]  # fmt: skip
    options = {"backtrace": "true", "untouched": "0", "odds": "0:1:1", "keep_order": keep_order}
    found = run([jsonl(tmp_path / "a.jsonl", texts)], tmp_path / "out", "utk", 512, order="source",
                shuffle_rows=False, options=options)  # fmt: skip
    rows, names = rows_with_names(found)
    loose = [untied(row, names) for row in rows]
    stream = b"".join(bytes(i for i in row if i < END) for row in loose)
    assert Counter(stream) == Counter("".join(texts).encode())
    whole = [text for text in texts if any(text.encode() in bytes(i for i in row if i < END)
                                           for row in loose)]  # fmt: skip
    cut = found.manifest["figures"]["documents_cut"]
    assert len(whole) >= len(texts) - cut
    assert found.manifest["figures"]["knots"] > len(texts)


def test_chunks_of_one_document_keep_their_order_and_the_last_one_ends_the_row(
    tmp_path: Path,
) -> None:
    """Every document counts up, so that chunks in their order read upwards."""
    texts = ["".join(chr(0x100 + i) for i in range(n)) for n in (30, 60, 90, 45, 70, 50)]
    found = run([jsonl(tmp_path / "a.jsonl", texts)], tmp_path / "out", "utk", 4096,
                order="source", options={"untouched": "0", "odds": "0:0:1"})  # fmt: skip
    (row,), names = rows_with_names(found)
    assert row[-1] == END
    knots = [names[token] for token in row if token in names]
    assert Counter(knots) == Counter(dict.fromkeys(names.values(), 6))
    for j in (1, 2):
        seen = 0
        for name in knots:
            seen += (name == f"<|knot_{j}_out|>") - (name == f"<|knot_{j}_in|>")
            assert seen >= 0, "a chunk never comes before the one it continues"


def test_nothing_is_predicted_from_or_as_a_knot_and_names_in_a_trace_are(tmp_path: Path) -> None:
    options = {"backtrace": "true", "untouched": "0", "odds": "0:1:1"}
    found = run([jsonl(tmp_path / "a.jsonl", marked(60))], tmp_path / "out", "utk", 512,
                options=options)  # fmt: skip
    names = {id_: token for token, id_ in found.manifest["added_tokens"].items()}
    for row in rows_of(found):
        wanted, inside_name = [], False
        before = ""
        for token in row.input_ids.tolist():
            name = names.get(token, "")
            inside_name = (inside_name or name == "<|chunk|>") and before != "<|/chunk|>"
            hidden = name.startswith("<|knot") or inside_name or name == "<|trace|>"
            blind = before.startswith("<|knot") or before in ("<|/chunk|>", "<|/trace|>", "end")
            wanted.append(int(not (hidden or blind)))
            before = "end" if token == END else name
        assert row.loss_mask is not None
        assert row.loss_mask.tolist() == wanted
        assert len(row.lengths) == 1


@pytest.mark.parametrize("untouched", ["0", "0.5", "1"])
def test_ends_are_predicted_and_nothing_is_predicted_from_them(
    tmp_path: Path, untouched: str
) -> None:
    """In rows left as they are too: the authors leave out every input that is an end token."""
    found = run([jsonl(tmp_path / "a.jsonl", marked(60))], tmp_path / "out", "utk", 256,
                options={"untouched": untouched})  # fmt: skip
    ends = after = 0
    for row in rows_of(found):
        assert row.loss_mask is not None
        mask, is_end = row.loss_mask.astype(bool), row.input_ids == END
        behind = np.append(False, is_end[:-1])
        assert not mask[behind].any()
        # Behind a knot, which stands where a chunk begins, an end may be the only token.
        assert mask[is_end & ~np.append(True, ~mask[:-1])].all()
        ends, after = ends + int(is_end.sum()), after + int(behind.sum())
        if untouched == "1":
            assert mask[~behind].all()
    assert ends == 60 and after > 40


def test_the_same_seed_ties_the_same_knots_and_another_seed_others(tmp_path: Path) -> None:
    source = [jsonl(tmp_path / "a.jsonl", marked(60))]
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        run(source, tmp_path / name, "utk", 256, seed=seed, order="source")
    assert tree(tmp_path / "a") == tree(tmp_path / "b")
    assert tree(tmp_path / "a") != tree(tmp_path / "c")


def test_untouched_rows_are_the_stream_as_it_is(tmp_path: Path) -> None:
    source = [jsonl(tmp_path / "a.jsonl", some_texts(40, 300))]
    utk = run(source, tmp_path / "utk", "utk", options={"untouched": "1"}, shuffle_rows=False)
    concat = run(source, tmp_path / "concat", "concat", shuffle_rows=False)
    for one, other in zip(rows_of(utk), rows_of(concat), strict=False):
        assert one.input_ids.tolist() == other.input_ids.tolist()
    assert utk.manifest["figures"]["rows_untouched"] == utk.manifest["rows"]
    assert not utk.manifest["dropped"]


def test_the_saved_tokenizer_knows_the_knots_and_texts_still_do_not_make_them(
    tmp_path: Path,
) -> None:
    texts = ["see <|knot_1_in|> and <|endoftext|> " * 4, *some_texts(20, 90)]
    found = run([jsonl(tmp_path / "a.jsonl", texts)], tmp_path / "out", "utk", 4096,
                options={"untouched": "1"})  # fmt: skip
    tokenizer = Tokenizer.from_file(str(tmp_path / "out" / "__about__" / "tokenizer.json"))
    for token, id_ in found.manifest["added_tokens"].items():
        assert tokenizer.token_to_id(token) == id_ > END
    assert found.manifest["tokenizer"]["vocab_size"] == tokenizer.get_vocab_size()
    assert all(row.input_ids.max() <= END for row in rows_of(found))


@pytest.mark.parametrize("odds", ["", "a:b", "0:0", "-1:2", "1:inf", "nan:1", ":".join("1" * 17)])
def test_odds_that_are_none_are_refused(odds: str) -> None:
    with pytest.raises(SequenceError, match="such as 1:1:1"):
        Utk(odds=odds)


def test_a_tokenizer_without_letters_cannot_name_chunks() -> None:
    tokenizer = Tokenizer(models.WordLevel({"word": 0, "?": 1, "<eos>": 2}, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.add_special_tokens(["<eos>"])
    method, encoder = Utk(backtrace=True), Encoder(tokenizer, "<eos>")
    encoder.add(method.tokens)
    with pytest.raises(SequenceError, match="backtrace=false"):
        method.prepare(None, encoder, 0)  # type: ignore[arg-type]  # it asks nothing of the store


def test_lots_are_fair_and_the_same_for_the_same_key() -> None:
    drawn = Counter(
        tuple(CounterRng(int(k)).shuffled([1, 2, 3])) for k in words(0, np.arange(3000))
    )
    assert len(drawn) == 6
    assert max(drawn.values()) < 1.2 * min(drawn.values())
    places = Counter(
        p for k in words(1, np.arange(3000)) for p in CounterRng(int(k)).distinct(3, 6)
    )
    assert max(places.values()) < 1.2 * min(places.values())
    assert CounterRng(7).shuffled(list(range(50))) == CounterRng(7).shuffled(list(range(50)))


def project(place: Path, count: int = 12, longest: int = 60) -> Path:
    """A project with `count` modules, most with a test, and files that belong to nothing."""
    for n in range(count):
        text = f"def f{n}():\n" + f"    x{n} = {n}\n" * (1 + n * 13 % longest)
        write(place / "src" / f"part{n % 3}" / f"module{n:02d}.py", text)
        if n % 4:
            write(place / "tests" / f"test_module{n:02d}.py", f"from module{n:02d} import f{n}\n")
    write(place / "README.md", "A project.\n")
    return place


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def pieces(row: Row) -> list[np.ndarray]:
    return np.split(row.input_ids, np.cumsum(row.lengths)[:-1])


def text_of(ids: np.ndarray) -> str:
    return bytes(ids[ids < END].astype(np.uint8)).decode()


@pytest.mark.parametrize("order", ["shuffle", "source", "by-repository"])
@pytest.mark.parametrize("part", [1 << 24, 1024])
def test_code_stands_before_its_test_in_one_piece_whatever_the_order_and_the_parts(
    tmp_path: Path, order: str, part: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_parts(monkeypatch, part)
    monkeypatch.setattr("lengthwise.sequences.plan.STRETCH", 3)
    monkeypatch.setattr("lengthwise.sequences.builders.pair.STRETCH", 5)
    source = project(tmp_path / "project")
    found = run([source], tmp_path / "out", "pair", 1024, order=order)
    token = found.manifest["added_tokens"][TOKEN]
    seen = 0
    texts: Counter[str] = Counter()
    for row in rows_of(found):
        for piece in pieces(row):
            at = np.flatnonzero(piece == token)
            if len(at):
                code, test = text_of(piece[: at[0]]), text_of(piece[at[0] + 1 :])
                number = int(code.split("(")[0].removeprefix("def f"))
                assert test == f"from module{number:02d} import f{number}\n"
                assert len(at) == 1
                assert piece[-1] == END
                assert END not in piece[:-1]
                seen += 1
                texts.update([code, test])
            else:
                texts.update([text_of(piece)])
    assert seen == found.manifest["figures"]["pairs"] == 9
    assert texts == Counter(p.read_text() for p in source.rglob("*") if p.is_file())
    assert sum(found.manifest["dropped"].values()) == 9
    assert (len(found.manifest["shards"]) > 1) == (part == 1024)


def test_the_pair_token_is_catlms_and_a_folder_with_the_former_one_is_read(tmp_path: Path) -> None:
    assert TOKEN == "<|codetestpair|>"
    found = run([project(tmp_path / "project")], tmp_path / "out", "pair", 1024)
    token = found.manifest["added_tokens"][TOKEN]
    rows = [row.input_ids.tolist() for row in rows_of(found)]
    for name in ("manifest.json", "tokenizer.json"):
        place = tmp_path / "out" / "__about__" / name
        place.write_text(place.read_text().replace(TOKEN, "<|test|>"))
    old = SequenceSet(tmp_path / "out")
    assert old.manifest["added_tokens"] == {"<|test|>": token}
    assert [row.input_ids.tolist() for row in rows_of(old)] == rows
    old.verify()
    tokenizer = Tokenizer.from_file(str(tmp_path / "out" / "__about__" / "tokenizer.json"))
    assert tokenizer.token_to_id("<|test|>") == token


def test_a_pair_longer_than_a_row_cuts_the_test_and_loses_nothing(tmp_path: Path) -> None:
    write(tmp_path / "p" / "a.py", "a" * 50)
    write(tmp_path / "p" / "test_a.py", "b" * 100)
    write(tmp_path / "p" / "long.py", "c" * 130)
    write(tmp_path / "p" / "test_long.py", "d" * 20)
    found = run([tmp_path / "p"], tmp_path / "out", "pair", 64)
    token = found.manifest["added_tokens"][TOKEN]
    rows = [row.input_ids.tolist() for row in rows_of(found)]
    assert [97] * 50 + [token] + [98] * 13 in rows
    counts = Counter(i for row in rows for i in row)
    assert [counts[i] for i in (97, 98, 99, 100, END, token)] == [50, 100, 130, 20, 3, 1]
    figures = found.manifest["figures"]
    assert (figures["pairs"], figures["pairs_cut"], figures["pairs_too_long"]) == (1, 1, 1)


def test_sources_without_a_pair_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SequenceError, match="best-fit"):
        run([jsonl(tmp_path / "test_a.jsonl", ["x", "y"]), jsonl(tmp_path / "a.jsonl", ["z"])],
            tmp_path / "out", "pair")  # fmt: skip


@pytest.mark.parametrize(
    ("stem", "subject"),
    [("test_cache", "cache"), ("cache_test", "cache"), ("cache.spec", "cache"),
     ("cache-tests", "cache"), ("CacheTest", "cache"), ("TestCache", "cache"),
     ("contest", None), ("latest", None), ("cache", None)],
)  # fmt: skip
def test_tests_are_told_by_their_names(stem: str, subject: str | None) -> None:
    assert subject_of(stem) == subject


def test_a_test_is_given_to_the_code_that_is_nearest_in_folders_and_spelling() -> None:
    names = ["r/a/cache.py", "r/b/cache.py", "r/b/test_cache.py", "r/c/engine/loop.py",
             "r/t/test_engine_loop.py", "r/loop.js", "r/c/sampling.py", "r/t/test_samplings.py",
             "r/t/test_nothing.py", "r/test_loop.txt"]  # fmt: skip
    assert match(names) == {1: 2, 3: 4, 6: 7}


def test_a_folder_with_its_tests_at_the_top_is_one_project() -> None:
    assert project_of(["mine/src", "mine/tests", "all/one", "all/two", "mine"]).tolist() == [
        0, 0, 1, 2, 0]  # fmt: skip


@pytest.mark.parametrize("method", ["utk", "pair"])
def test_a_run_that_failed_anywhere_goes_on_to_the_same_bytes(
    tmp_path: Path, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_parts(monkeypatch, 2048)
    monkeypatch.setattr("lengthwise.sequences.tokenise.COMMIT_S", 0.0)
    source = [project(tmp_path / "project", 20)]
    goes_on_to_the_same_bytes(
        tmp_path, lambda out: run(source, out, method, 256, options={}), (1, 4), 5, monkeypatch
    )


def test_parts_of_pairs_cover_the_order_without_gaps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_parts(monkeypatch, 512)
    run([project(tmp_path / "p", 24)], tmp_path / "out", "pair", 128)
    manifest = json.loads((tmp_path / "out" / "__about__" / "manifest.json").read_text())
    numbers = [int(shard["file"][5:10]) for shard in manifest["shards"]]
    assert all(b == a + 1 for a, b in pairwise(numbers))
