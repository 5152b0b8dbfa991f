"""HCoT: sums of two numbers of two digits, whose carries are thought and not written.

The thought of 47+85 is `12 13`: the sum of the units, and that of the tens with what is carried.
The answer is `132`. Tiny Llamas of one size learn, from scratch: the answer alone, thought and
answer written, and the answer behind a hidden thought (`lengthwise.training.hcot`), with the
contrastive loss and without. What is asked was not trained on. Both stages of HCoT together have
twice the steps of the others, so the answer alone is also learned in twice as many. float32, CPU.
"""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import Any

import torch
from benchmarks.reproduction.harness import Found, check
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from lengthwise.training.hcot import (
    HiddenThoughts,
    Stage,
    Thinking,
    states_of,
    train_answers,
    train_thinker,
)

SIGNS = "0123456789+= "
END, COT = len(SIGNS), len(SIGNS) + 1
SIZES = {
    "vocab_size": len(SIGNS) + 2, "hidden_size": 64, "intermediate_size": 192,
    "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 4,
    "tie_word_embeddings": True, "max_position_embeddings": 64, "initializer_range": 0.08,
}  # fmt: skip
COLUMNS = {
    "way": "", "steps": ",", "seeds": "", "accuracy": ".1%", "lowest": ".1%", "highest": ".1%",
    "tokens written": ".1f",
}  # fmt: skip


def ids(text: str) -> tuple[int, ...]:
    """Tokens of a text, one a sign."""
    return tuple(SIGNS.index(sign) for sign in text)


def sums(count: int) -> tuple[list[Thinking], list[Thinking]]:
    """Sums to train on, and the others."""
    every = [(a, b) for a in range(100) for b in range(100)]
    Random(0).shuffle(every)
    made = []
    for a, b in every:
        units = a % 10 + b % 10
        tens = a // 10 + b // 10 + units // 10
        said = (ids(f"{a:02}+{b:02}="), (*ids(f"{a + b:03}"), END))
        made.append(Thinking(said, (ids(f"{units:02} {tens:02} "),)))
    return made[:count], made[count:]


def model(seed: int) -> PreTrainedModel:
    """A tiny Llama that knows nothing."""
    torch.manual_seed(seed)
    made: PreTrainedModel = AutoModelForCausalLM.from_config(AutoConfig.for_model("llama", **SIZES))
    return made


def written(way: str, texts: list[Thinking], steps: int, seed: int) -> Any:
    """A model that writes the answer alone, or thought and answer."""
    rows = [
        Thinking((each.said[0], (END,)),
                 ((*(each.thoughts[0] if way == "thought" else ()), *each.said[1][:-1]),))
        for each in texts
    ]  # fmt: skip
    made = model(seed)
    # Stage 1 without contrast is plain training on what stands behind the question.
    train_thinker(made, END, rows, Stage(steps=steps, contrast=0.0, seed=seed))
    return made


def greedy(made: PreTrainedModel, question: tuple[int, ...], most: int) -> list[int]:
    """What a model writes behind a question, up to its end."""
    said = list(question)
    with torch.no_grad():
        for _ in range(most):
            token = int(made(input_ids=torch.tensor([said])).logits[0, -1].argmax())
            if token == END:
                break
            said.append(token)
    return said[len(question) :]


@check(COLUMNS, seen={"way": "", "digits of the thought read off": ".1%"})
def hcot(train: int = 1200, steps: int = 1000, asked: int = 300, seeds: int = 2) -> Iterator[Found]:
    """Accuracy of answers alone, with written and with hidden thoughts, and tokens written."""
    some, held = sums(train)
    held = held[:asked]
    ways: dict[str, list[tuple[float, float]]] = {}
    total: dict[str, int] = {}
    for seed in range(seeds):
        for way, count in (("answer", steps), ("answer", 2 * steps), ("thought", steps)):
            name = {"answer": "answer alone", "thought": "thought written"}[way]
            name = f"{name}, {count:,} steps"
            made = written(way, some, count, seed)
            total[name] = count
            ways.setdefault(name, []).append(_right(
                [greedy(made, each.said[0], 16) for each in held], held
            ))  # fmt: skip
        for weight in (1.0, 0.0):
            name = f"thought hidden, contrast {weight:g}"
            thinker = model(seed)
            train_thinker(thinker, COT, some, Stage(steps=steps, contrast=weight, seed=seed))
            hidden = HiddenThoughts(model(seed + 100), thinker, COT)
            train_answers(hidden, some, Stage(steps=steps, seed=seed))
            total[name] = 2 * steps
            ways.setdefault(name, []).append(_right(
                [hidden.write(each.said[0], 16, [END]) for each in held], held
            ))  # fmt: skip
            if not seed:
                yield ("seen", {"way": name, "digits of the thought read off":
                                read_off(thinker, some, held)})  # fmt: skip
    for name, found in ways.items():
        shares = [share for share, _ in found]
        yield {
            "way": name, "steps": total[name], "seeds": len(found),
            "accuracy": sum(shares) / len(found), "lowest": min(shares), "highest": max(shares),
            "tokens written": sum(count for _, count in found) / len(found),
        }  # fmt: skip


def _right(said: list[list[int]], held: list[Thinking]) -> tuple[float, float]:
    """Share of right answers, and tokens written."""
    right = sum(each[-3:] == list(text.said[1][:-1]) for each, text in zip(said, held, strict=True))
    return right / len(held), sum(map(len, said)) / len(said)


def read_off(thinker: PreTrainedModel, some: list[Thinking], held: list[Thinking]) -> float:
    """How many digits of unseen thoughts a linear layer reads off the states of [CoT]."""
    places = [0, 1, 3, 4]
    with torch.no_grad():
        states, others = (
            states_of(thinker, [(*each.said[0], COT) for each in texts]) for texts in (some, held)
        )
    right = 0.0
    for place in places:
        wanted, hoped = (
            torch.tensor([each.thoughts[0][place] for each in texts]) for texts in (some, held)
        )
        probe = torch.nn.Linear(states.shape[1], len(SIGNS))
        optimizer = torch.optim.Adam(probe.parameters(), lr=0.03)
        for _ in range(300):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(probe(states), wanted).backward()
            optimizer.step()
        right += float((probe(others).argmax(-1) == hoped).float().mean())
    return right / len(places)
