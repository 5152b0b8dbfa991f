"""A short context that stands for a long one: what is retrieved, scored and kept of a prompt."""

from __future__ import annotations

import random
from collections.abc import Sequence as Seq
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from lengthwise._utils.text_encoder import TextEncoder
from lengthwise.errors import RecipeError, Refused
from lengthwise.methods.drafting.rapid import Rapid
from lengthwise.retrieval.passages import Scores, bm25, encoder, retrieve
from lengthwise.testing.tiny import tiny


def test_the_chunk_that_shares_the_questions_rare_words_is_found() -> None:
    chunks = [[1, 1, 2, 3], [1, 2, 9, 8], [1, 1, 1, 1]]
    scores = bm25(chunks, [1, 9, 8])
    assert scores.argmax() == 1 and scores.max() == 1.0
    assert bm25(chunks, [50]).tolist() == [0.0] * 3


def test_what_stands_later_in_the_question_weighs_more() -> None:
    chunks = [[1, 2, 3], [7, 8, 9]]
    assert bm25(chunks, [1, 2, 3, 7, 8, 9]).argmax() == 1
    assert bm25(chunks, [7, 8, 9, 1, 2, 3]).argmax() == 0


def test_chunks_come_in_document_order_within_the_budget() -> None:
    text = [*range(40)]

    def score(chunks: Seq[Seq[int]], question: Seq[int]) -> Scores:
        """Prefers the chunks that begin at 30, 10 and 15; they begin at every 5th token."""
        return np.array([{30: 1.0, 10: 0.9, 15: 0.4}.get(chunk[0], 0.1) for chunk in chunks])

    assert retrieve(text, [0], 10, 20, 0.3, score) == [*range(10, 20), *range(30, 40)]
    assert retrieve(text, [0], 10, 25, 0.3, score) == [*range(10, 25), *range(30, 40)]
    assert retrieve(text, [0], 10, 40, 0.95, score) == [*range(30, 40)]
    assert retrieve(text, [0], 10, 4, 0.3, score) == [30, 31, 32, 33]
    assert retrieve([], [0], 10, 4, 0.3, bm25) == []


def test_a_long_prompt_is_shortened_to_head_passage_and_question() -> None:
    words = random.Random(0)
    filler = [words.randrange(100, 200) for _ in range(2000)]
    passage = [*range(20, 60)]
    prompt = [1, 2, *filler[:900], *passage, *filler[900:], 3, *passage[:6]]
    options = Rapid(chunk=64, head=2, tail=7)
    short = options.shortened(prompt, bm25)
    assert short[:2] == [1, 2] and short[-7:] == prompt[-7:]
    assert len(short) <= 2 + len(prompt) // 4 + 7
    assert set(passage) <= set(short)
    assert options.shortened(prompt[:9], bm25) == prompt[:9]


def test_an_encoder_folder_scores_by_cosine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vocabulary = {word: number for number, word in enumerate(["[PAD]", "[UNK]", *"abcdefgh"])}
    words = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="[PAD]", unk_token="[UNK]"
    )
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(vocabulary), hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=16, max_position_embeddings=32,
    )  # fmt: skip
    BertModel(config).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    score = encoder(str(tmp_path)).scoring(lambda ids: tokenizer.decode(list(ids)))
    scores = score([[2, 3, 4], [5, 6], [2, 3]], [2, 3])
    assert scores.argmax() == 2 and scores[2] == pytest.approx(1.0, abs=1e-5)
    with monkeypatch.context() as patched:
        patched.setenv("HOME", str(tmp_path.parent))
        at_home = encoder(f"~/{tmp_path.name}").scoring(lambda ids: tokenizer.decode(list(ids)))
        assert at_home([[2, 3, 4], [2, 3]], [2, 3]) == pytest.approx(scores[[0, 2]], abs=1e-5)
    texts = ["a b c d e f", "g", "a b", "h g f e", "c"] * 5
    read: list[int] = []
    real = TextEncoder.embed
    one_by_one = torch.cat([encoder(str(tmp_path)).embed([text]) for text in texts])
    monkeypatch.setattr(
        TextEncoder, "embed", lambda self, some: read.extend(map(len, some)) or real(self, some)
    )
    torch.testing.assert_close(encoder(str(tmp_path)).embed(texts, batch=3), one_by_one)
    assert read == sorted(map(len, texts))
    with pytest.raises(RecipeError, match="no folder of an encoder"):
        encoder(str(tmp_path / "none"))
    with pytest.raises(Refused, match="without a tokenizer"):
        Rapid(encoder=str(tmp_path)).check(tiny("llama"))
