"""A second model guesses without changing a text, in the target's vocabulary or through text."""

from __future__ import annotations

import random
from collections.abc import Sequence as Seq
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from lengthwise import recipes
from lengthwise.engine import loop
from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.engine.plan import Plan
from lengthwise.engine.request import Request
from lengthwise.engine.sampling import Sampling
from lengthwise.engine.speculative.draft_length import Fixed
from lengthwise.errors import LengthwiseError, RecipeError, Refused
from lengthwise.methods.drafting.model import SecondModel, SecondModelDrafter
from lengthwise.models.adapt import adapt
from lengthwise.models.adapted_model import AdaptedModel
from lengthwise.testing.tiny import tiny_model
from lengthwise.tokenization.translation import Translator
from tests.cache_recipes import RECIPES

PROSE = (
    "The keeper wrote every evening in a thick green book. He noted the wind, the height of the "
    "waves and the names of the ships that passed. Nobody answered. At midnight the fog lifted, "
    "and a small boat with a red sail lay on the stones below the tower. "
)


def tokens(count: int) -> list[int]:
    generator = random.Random(0)
    return [generator.randrange(3, 100) for _ in range(count)]


def generate(
    prompt: Seq[int],
    *drafters: SecondModel,
    target: AdaptedModel,
    recipe: str = "full",
    sampling: Sampling | None = None,
    new: int = 40,
) -> Request:
    plan = recipes.resolve(recipe, target)
    made = tuple(lambda method=method: method.start_drafter(target) for method in drafters)
    sequence = Sequence(target, replace(plan, drafters=made))
    request = loop.begin(sequence, sampling or Sampling(), new, ())
    loop.start(request, loop.prefill(sequence, prompt))
    for _ in loop.run(request, Fixed()):
        pass
    loop.finish(request)
    return request


def tokenizer(kind: str, vocab_size: int) -> PreTrainedTokenizerFast:
    """A tokenizer trained on PROSE: of bytes, or of words with their space in front."""
    found = Tokenizer(models.BPE(unk_token=None if kind == "bytes" else "<unk>"))
    if kind == "bytes":
        found.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        found.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
    else:
        found.pre_tokenizer = pre_tokenizers.Metaspace()
        found.decoder = decoders.Metaspace()
        alphabet = sorted(set(PROSE))
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size, special_tokens=["<unk>", "<s>", "</s>"], initial_alphabet=alphabet,
        show_progress=False,
    )  # fmt: skip
    found.train_from_iterator([PROSE], trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=found, unk_token="<unk>", bos_token="<s>", eos_token="</s>"
    )


@lru_cache
def words(kind: str = "words", vocab_size: int = 120) -> PreTrainedTokenizerFast:
    return tokenizer(kind, vocab_size)


def with_words(kind: str = "words", size: int = 120, seed: int = 0, **changes: int) -> AdaptedModel:
    """A model that has a tokenizer, of `size` tokens unless changed."""
    settings = {"vocab_size": len(words(kind, size)), "initializer_range": 0.12, **changes}
    found = adapt(tiny_model("llama", seed=seed, **settings))
    found.tokenizer = words(kind, size)
    return found


def saved(adapted: AdaptedModel, folder: Path) -> SecondModel:
    """The method that drafts with a model of a folder."""
    assert adapted.tokenizer is not None
    adapted.release()
    adapted.model.save_pretrained(folder)
    adapted.tokenizer.save_pretrained(folder)
    return SecondModel(path=str(folder))


@pytest.fixture(scope="module")
def second(tmp_path_factory: pytest.TempPathFactory) -> SecondModel:
    """A second model with the tokenizer of `with_words()` and other weights."""
    return saved(with_words(seed=1), tmp_path_factory.mktemp("second"))


@pytest.mark.parametrize("recipe", RECIPES)
def test_greedy_with_a_second_model_is_token_equal(second: SecondModel, recipe: str) -> None:
    target = with_words()
    prompt = target.tokenizer.encode(PROSE)[:60]  # type: ignore[union-attr]
    plain = generate(prompt, recipe=recipe, target=target, new=24)
    drafted = generate(prompt, second, recipe=recipe, target=target, new=24)
    assert drafted.output == plain.output
    cramped = any("no room for guesses" in note for note in drafted.metrics.notes)
    assert len(drafted.metrics.notes) == cramped
    assert (drafted.metrics.drafted > 0) != cramped and (not cramped or recipe.startswith("h2o"))


# A second model.


def test_a_second_model_that_is_the_first_is_always_right(tmp_path: Path) -> None:
    method = replace(saved(with_words(), tmp_path), depth=4, width=1)
    metrics = generate(tokens(40), method, target=with_words(), new=41).metrics
    assert metrics.decoded == 40 and metrics.steps == 8


def test_a_second_model_with_spare_rows_says_only_what_the_first_knows(tmp_path: Path) -> None:
    target = with_words()
    method = saved(with_words(seed=1, vocab_size=target.vocab_size + 9), tmp_path)
    for draws in ("coupled", "rejection"):
        drafted = generate(
            tokens(40), replace(method, draws=draws), target=target, sampling=Sampling(1.5)
        )
        assert drafted.metrics.notes == [] and drafted.metrics.drafted > 0


def test_a_target_without_a_tokenizer_is_refused(second: SecondModel) -> None:
    with pytest.raises(Refused, match="without a tokenizer"):
        second.check(adapt(tiny_model("llama")))


def test_a_second_model_that_is_not_there_is_one_clear_error() -> None:
    with pytest.raises(LengthwiseError, match="no such folder"):
        SecondModel(path="/nowhere/at/all").check(with_words())


def test_a_second_model_is_loaded_once(second: SecondModel) -> None:
    target = with_words()
    assert second.load(target) is second.load(target)


def test_a_second_model_may_read_under_a_recipe_of_its_own(second: SecondModel) -> None:
    target = with_words()
    plain = generate(tokens(60), target=target)
    method = replace(second, recipe="streaming(sinks=2, window=20)")
    drafted = generate(tokens(60), method, target=target)
    assert drafted.output == plain.output and drafted.metrics.notes == []
    with pytest.raises(RecipeError, match="unknown method"):
        replace(second, recipe="streeming").check(target)


# Another tokenizer.

PAIRS = [("bytes", 300, "words", 90), ("words", 140, "bytes", 290), ("bytes", 300, "bytes", 270)]


@pytest.mark.parametrize(("kind", "size", "other", "less"), PAIRS)
def test_what_is_settled_never_changes_and_all_of_it_is_the_text(
    kind: str, size: int, other: str, less: int
) -> None:
    target, draft = words(kind, size), words(other, less)
    ids = target.encode(PROSE * 3, add_special_tokens=False)
    translator = Translator(target, draft)
    before: list[int] = []
    for count in range(1, len(ids) + 1):
        translator.read(ids[:count])
        assert translator.settled[: len(before)] == before
        before = list(translator.settled)
        assert len(translator.open) < 20
    whole = draft.decode([*translator.settled, *translator.open])
    assert whole.strip() == (PROSE * 3).strip()
    assert [*translator.settled, *translator.open] == draft.encode(
        PROSE * 3, add_special_tokens=False
    )


def with_bytes() -> PreTrainedTokenizerFast:
    """A vocabulary that falls back on bytes, as those of Llama 2 and Mistral do."""
    from tokenizers import Tokenizer, decoders, models

    pieces = ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", "▁the", "a", "é"]
    model = models.BPE({piece: number for number, piece in enumerate(pieces)}, [],
                       unk_token="<unk>", byte_fallback=True)  # fmt: skip
    found = Tokenizer(model)
    found.decoder = decoders.Sequence([
        decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(),
        decoders.Strip(" ", 1, 0),
    ])  # fmt: skip
    return PreTrainedTokenizerFast(tokenizer_object=found, unk_token="<unk>")


@pytest.mark.parametrize("seed", range(40))
def test_bytes_that_are_no_character_are_read_as_the_tokenizer_reads_them(seed: int) -> None:
    """A model may say bytes in any order; whether a run of them is text is known when it ends."""
    target, draft = with_bytes(), words("bytes", 300)
    prob = random.Random(seed)
    some = [f"<0x{byte:02X}>" for byte in "é€😀ñ".encode()]
    names = [prob.choice([*some, "▁the", "a", "é", "▁"]) for _ in range(12)] + ["▁the", "a"]
    ids = [target.convert_tokens_to_ids(name) for name in names]
    translator = Translator(target, draft)
    for count in range(1, len(ids) + 1):
        translator.read(ids[:count])
    read = draft.decode([*translator.settled, *translator.open])
    assert read == target.decode(ids, clean_up_tokenization_spaces=False)


@pytest.mark.parametrize(("kind", "size", "other", "less"), PAIRS)
def test_right_guesses_come_back_as_the_targets_own_tokens(
    kind: str, size: int, other: str, less: int
) -> None:
    target, draft = words(kind, size), words(other, less)
    ids = target.encode(PROSE, add_special_tokens=False)
    future = draft.encode(PROSE, add_special_tokens=False)
    right = wrong = 0
    for count in range(1, len(ids) - 10):
        translator = Translator(target, draft)
        translator.read(ids[:count])
        known = len(translator.settled) + len(translator.open)
        if future[:known] != [*translator.settled, *translator.open]:
            continue
        guesses = future[known : known + 6]
        found = translator.back(ids[:count], guesses, [0.9] * len(guesses))
        assert all(0 < guess.prior <= 1 for guess in found)
        for guess, token in zip(found, ids[count:], strict=False):
            if not guess.open:
                right, wrong = right + (guess.token == token), wrong + (guess.token != token)
    assert wrong == 0 and right > len(ids) // 2


@pytest.mark.parametrize(("kind", "size", "other", "less"), PAIRS)
@pytest.mark.parametrize("temperature", [0.0, 0.7])
def test_a_second_model_with_another_tokenizer_changes_nothing(
    kind: str, size: int, other: str, less: int, temperature: float, tmp_path: Path
) -> None:
    method = saved(with_words(other, less, seed=1), tmp_path)
    target = with_words(kind, size)
    method.check(target)
    prompt = words(kind, size).encode(PROSE, add_special_tokens=False)[:50]
    sampling = Sampling(temperature, seed=2)
    plain = generate(prompt, target=target, sampling=sampling)
    drafted = generate(prompt, method, target=target, sampling=sampling)
    assert drafted.output == plain.output
    assert drafted.metrics.notes == []


@pytest.mark.parametrize(
    ("recipe", "reason"),
    [
        ("lookup", "nobody guesses or writes in its place"),
        ("superposed", "nobody guesses or writes in its place"),
        ("no_repeat_ngram", "nobody guesses or writes in its place"),
        ("sirllm(budget=24)", "notes of every token said"),
    ],
)
def test_a_recipe_of_which_a_part_would_be_left_out_is_refused(
    second: SecondModel, recipe: str, reason: str
) -> None:
    with pytest.raises(Refused, match=reason):
        replace(second, recipe=recipe).check(with_words())


def test_a_model_that_believes_in_no_token_says_so(second: SecondModel) -> None:
    target = with_words()

    class Lost(SecondModelDrafter):
        def probs(self, logits: Tensor, tokens: Seq[int], path: Seq[int]) -> Tensor:
            return super().probs(logits, tokens, path) * torch.nan

    drafter = Lost(second, second.load(target), second.plan(second.load(target)))
    sequence = Sequence(target, Plan(drafters=(lambda: drafter,)))
    request = loop.begin(sequence, Sampling(), 8, ())
    loop.start(request, loop.prefill(sequence, tokens(20)))
    for _ in loop.run(request, Fixed()):
        pass
    (note,) = request.metrics.notes
    assert note.endswith("the model it asks gives no token a probability above 0")
