"""Ruler: answers of a wanted number of words, from the embedded model trained on few pairs.

Pairs are sentences of Moby Dick: a question shows one, and asks what comes next, which are the
whole sentences behind it as far as they have the words of a class. The last quarter of the book is
asked about, the rest is trained on. The model is trained by our trainer on rows of `lengthwise
sequences answers --method ruler`. It stands in FOLDER, and what is there is not trained again. CPU,
weights in float32 and arithmetic in bfloat16; training takes about 20 minutes.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

from benchmarks.reproduction.book import moby_dick
from benchmarks.reproduction.harness import Found, check
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit

import lengthwise
from lengthwise.evaluation.metrics.answer_lengths import length_matches
from lengthwise.methods.prompting.ruler import CLASSES, class_of, ruler_words, within_band
from lengthwise.models.load import load_pretrained
from lengthwise.retrieval.sentences import sentences
from lengthwise.sequences.answers.base import make_answers
from lengthwise.sequences.answers.build import AnswerBuild, build_answers, open_writer
from lengthwise.training.config import read_config
from lengthwise.training.trainer import train

TARGETS = ("10", "30", "50")
KINDS = {each.target: each for each in CLASSES if each.target in TARGETS}
ASKED = "Here is a sentence of a novel. Write what comes next.\n\n{}"
MOST_NEW = 120
END, UNKNOWN = "<|endoftext|>", "[UNK]"
WORDS = [f"{first}{second}" for first in "bdfgklmn" for second in "aeiou"]
TINY = {
    "family": "llama", "hidden_size": 64, "intermediate_size": 192, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 4, "tie_word_embeddings": True,
    "initializer_range": 0.08,
}  # fmt: skip
COLUMNS = {
    "model": "", "asked by": "", "words asked": "", "answers": "", "PM": ".0%", "FM": ".0%",
    "mean words": ".1f",
}  # fmt: skip
Pairs = list[dict[str, str]]


def pairs() -> tuple[Pairs, Pairs]:
    """Pairs to train on, and pairs to ask about, in equal numbers of each class."""
    text = " ".join(moby_dick().split())
    found = [each.strip() for each in sentences(text) if each.strip()]
    last = len(found) * 3 // 4
    return _pairs(found[:last]), _pairs(found[last:])


def _pairs(found: list[str]) -> Pairs:
    made: dict[str, Pairs] = {target: [] for target in TARGETS}
    for at, first in enumerate(found[:-8]):
        if not 5 < ruler_words(first) <= 20:
            continue
        for target, kind in KINDS.items():
            for stop in range(at + 2, at + 8):
                answer = " ".join(found[at + 1 : stop])
                if within_band(ruler_words(answer), kind.trained):
                    question = ASKED.format(first)
                    made[target].append({"question": question, "answer": answer, "words": target})
                    break
    chance = Random(0)
    for each in made.values():
        chance.shuffle(each)
    count = min(map(len, made.values()))
    return [each[number] for number in range(count) for each in made.values()]


def checkpoint(folder: Path) -> Path:
    """The embedded model as a folder that is trained on."""
    place = folder / "base"
    if not place.exists():
        model, tokenizer, _ = load_pretrained(None, "fp32")
        model.config.quantization_config = None
        del model.config.quantization_config
        model.save_pretrained(place)
        tokenizer.save_pretrained(place)
    return place


def trained(folder: Path, examples: int, epochs: int, rate: float) -> Path:
    """FOLDER/ruler/model, trained on the first pairs unless it was."""
    place = folder / "ruler"
    if (place / "model").exists():
        return place / "model"
    base, given = checkpoint(folder), pairs()[0][:examples]
    writer, method = open_writer(str(base)), make_answers("ruler", {}, 256)
    build_answers(AnswerBuild(list(given), writer, method, folder / "ruler-rows"))
    table: dict[str, Any] = {
        "out": str(place), "tokens_per_step": 512, "epochs": epochs, "precision": "bf16",
        "model": {"checkpoint": str(base)}, "data": {"train": "ruler-rows"},
        "optimizer": {"lr": rate, "weight_decay": 0.0},
        "schedule": {"warmup_steps": 5, "floor": rate / 10}, "log": {"plot_every": 0},
        "checkpoint": {"every": 0},
    }  # fmt: skip
    train(read_config(table, folder))
    return place / "model"


@check(COLUMNS, free={"words of its own token": "", "answers": "", "FM": ".0%",
                      "mean words": ".1f"})  # fmt: skip
def ruler(
    folder: Path, examples: int = 240, epochs: int = 3, rate: float = 2e-4, asked: int = 12
) -> Iterator[Found]:
    """Precise and flexible match of 10, 30 and 50 words, of trained and untrained models."""
    (folder := folder.absolute()).mkdir(parents=True, exist_ok=True)
    base = checkpoint(folder)
    with_tokens = trained(folder, examples, epochs, rate)
    for name, place, by_token in (
        ("untrained", base, False), ("trained", with_tokens, False), ("trained", with_tokens, True),
    ):  # fmt: skip
        yield from _asked(name, place, by_token, asked)
    yield from _free(with_tokens, asked)


def _asked(name: str, place: Path, by_token: bool, asked: int) -> Iterator[Found]:
    """Each question once for each class."""
    questions = [each["question"] for each in pairs()[1][:asked]]
    said = []
    with lengthwise.load(str(place)) as model:
        for target, kind in KINDS.items():
            for question in questions:
                content = question if by_token else f"{question}\n{kind.phrase}"
                recipe = f"ruler(words={target})" if by_token else "full"
                found = model.generate(
                    [{"role": "user", "content": content}], recipe, max_new_tokens=MOST_NEW
                )
                said.append((target, found.text))
    for each in length_matches(said):
        yield {
            "model": name, "asked by": "token" if by_token else "words",
            "words asked": each.target, "answers": each.answers, "PM": each.precise,
            "FM": each.flexible, "mean words": each.words,
        }  # fmt: skip


def _free(place: Path, asked: int) -> Iterator[Found]:
    """What the model writes where nobody says how long."""
    tokens = {each.token: each.target for each in CLASSES}
    said = []
    with lengthwise.load(str(place)) as model:
        assert model.tokenizer is not None
        for each in pairs()[1][: 3 * asked]:
            found = model.generate(
                [{"role": "user", "content": each["question"]}], max_new_tokens=MOST_NEW
            )
            first = str(model.tokenizer.convert_ids_to_tokens(found.token_ids[0]))
            said.append((tokens.get(first, "none"), found.text))
    for target in dict.fromkeys(first for first, _ in said):
        texts = [text for first, text in said if first == target]
        words = [ruler_words(text) for text in texts]
        hits = sum(class_of(max(1, n)).target == target for n in words)
        yield ("free", {
            "words of its own token": target, "answers": len(texts), "FM": hits / len(texts),
            "mean words": sum(words) / len(words),
        })  # fmt: skip


@check({"asked by": "", "words asked": "", "answers": "", "PM": ".0%", "FM": ".0%",
        "mean words": ".1f"})  # fmt: skip
def tiny(folder: Path, count: int = 1200, epochs: int = 25, asked: int = 40) -> Iterator[Found]:
    """The same of a tiny Llama from scratch, whose words are drawn: all it can learn is lengths."""
    (folder := folder.absolute()).mkdir(parents=True, exist_ok=True)
    writer = open_writer(str(_words(folder)))
    chance = Random(0)
    given = []
    for number in range(count):
        low, high = KINDS[TARGETS[number % 3]].trained
        length = chance.randint(int(low) + 1, int(high))
        answer = " ".join(chance.choices(WORDS, k=length))
        given.append({"question": chance.choice(WORDS), "answer": answer})
    build_answers(AnswerBuild(
        list(given), writer, make_answers("ruler", {}, 128), folder / "tiny-rows"
    ))  # fmt: skip
    if not (folder / "tiny" / "model").exists():
        train(read_config({
            "out": str(folder / "tiny"), "tokens_per_step": 2048, "epochs": epochs,
            "model": TINY, "data": {"train": "tiny-rows"},
            "optimizer": {"lr": 3e-3, "weight_decay": 0.0},
            "schedule": {"warmup_steps": 50, "floor": 3e-5}, "log": {"plot_every": 0},
            "checkpoint": {"every": 0},
        }, folder))  # fmt: skip
    with lengthwise.load(str(folder / "tiny" / "model"), dtype="fp32") as model:
        for way in ("token", "words", "nothing"):
            said = []
            for target, kind in KINDS.items():
                phrase = f"\n{kind.phrase}" if way == "words" else ""
                recipe = f"ruler(words={target})" if way == "token" else "full"
                found = model.generate_batch(
                    [word + phrase for word in WORDS[:asked]], recipe, max_new_tokens=80
                )
                said += [(target, each.text) for each in found]
            for each in length_matches(said):
                yield {
                    "asked by": way, "words asked": each.target, "answers": each.answers,
                    "PM": each.precise, "FM": each.flexible, "mean words": each.words,
                }  # fmt: skip


def _words(folder: Path) -> Path:
    """FOLDER/tokenizer.json, whose tokens are words."""
    said = [word for kind in CLASSES for word in kind.phrase.split()]
    every = list(dict.fromkeys([UNKNOWN, *WORDS, *said]))
    tokenizer = Tokenizer(WordLevel({word: n for n, word in enumerate(every)}, UNKNOWN))
    tokenizer.pre_tokenizer = WhitespaceSplit()
    tokenizer.add_special_tokens([END])
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder / "tokenizer.json"
