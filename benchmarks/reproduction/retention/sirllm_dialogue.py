"""SirLLM's three dialogues on the real 135M model, turn by turn in one sequence.

    python -m benchmarks.checks.dialogues NAME [--count 8] [--rounds 120] [--kept 256]

NAME is grocery, game or talk; prints one JSON line. Every turn goes through the model's chat
template and is read into the sequence that holds the turns before; of what may be answered the
likeliest is chosen and said, and the next turn follows. Likeliest by its first token, as in the
authors' code, or where first tokens are equal by the mean log p of all. Of an errand the plain
questions are answered rightly, so that all recipes read the same text. `right` is the share of
right choices, of the game the share of rounds won; `loss` the mean loss in nats of the right
answers. `kept` is what each recipe holds of the sequence; the model is loaded in float32.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from typing import Any

import lengthwise
from lengthwise.engine.loop import prefill, teacher_force
from lengthwise.engine.sequence import Sequence
from lengthwise.tasks.dialogues import MOVES, Dialogue, Score, Turn, game, grocery, talks


def dialogues(name: str, count: int, rounds: int) -> Iterator[Dialogue]:
    if name == "grocery":
        yield from (grocery(seed) for seed in range(count))
    elif name == "game":
        yield from (game(move, rounds, seed=1) for move in MOVES)
    else:
        yield talks(min(count, 12))


def recipes(kept: int) -> list[str]:
    """Full, recency alone, and SirLLM with half of its memory for news and with all of it."""
    return [
        "full", f"streaming(window={kept - 4})", f"sirllm(budget={kept}, recent=0.5)",
        f"sirllm(budget={kept}, recent=0)",
    ]  # fmt: skip


class Player:
    """One dialogue under one recipe."""

    def __init__(self, model: lengthwise.Model, recipe: str) -> None:
        self.model = model
        self.sequence = Sequence(model.adapted, model.plan(recipe))
        self.nats: list[float] = []
        self._said: list[dict[str, str]] = []
        self._text = ""

    def ask(self, turn: Turn) -> int:
        """Reads the turn and says an answer; its number."""
        self._said.append({"role": "user", "content": turn.text})
        prefill(self.sequence, self._new(open=True))
        chosen = turn.right
        if turn.counts:
            chosen = self._choose(turn)
        self._said.append({"role": "assistant", "content": turn.choices[chosen]})
        prefill(self.sequence, self._new(open=False))
        return chosen

    def _choose(self, turn: Turn) -> int:
        answers = [self._ids(choice) for choice in turn.choices]
        if len({ids[0] for ids in answers}) == len(answers):
            answers = [ids[:1] for ids in answers]
        means = []
        for ids in answers:
            logits = self.sequence.last_logits
            assert logits is not None
            if len(ids) > 1:
                logits = teacher_force(self.sequence.fork(), ids, len(ids))
            scores = logits.float().reshape(-1, logits.shape[-1]).log_softmax(-1)
            means.append(float(scores[range(len(ids)), ids].mean()))
        self.nats.append(-means[turn.right])
        return max(range(len(means)), key=means.__getitem__)

    def _new(self, open: bool) -> list[int]:
        """Tokens of what the template adds to what was read."""
        tokenizer: Any = self.model.tokenizer
        whole = tokenizer.apply_chat_template(
            self._said, tokenize=False, add_generation_prompt=open
        )
        if not whole.startswith(self._text):
            raise SystemExit("this chat template rewrites earlier turns: take another model")
        added, self._text = whole[len(self._text) :], whole
        return self._ids(added)

    def _ids(self, text: str) -> list[int]:
        return list(self.model.tokenizer.encode(text, add_special_tokens=False))  # type: ignore[union-attr]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=("grocery", "game", "talk"))
    parser.add_argument("--count", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=120)
    parser.add_argument("--kept", type=int, default=256)
    given = parser.parse_args()
    model = lengthwise.load(dtype="float32")
    table: dict[str, Any] = {}
    for recipe in recipes(given.kept):
        score, nats, lengths = Score(), [], []
        for dialogue in dialogues(given.name, given.count, given.rounds):
            player = Player(model, recipe)
            for turn in dialogue.turns:
                score.add(turn, player.ask(turn))
            nats += player.nats
            lengths.append(len(player.sequence))
        table[recipe] = {
            "right": round(score.accuracy, 3), "asked": score.asked, "ties": score.ties,
            "loss": round(sum(nats) / len(nats), 3), "tokens": round(sum(lengths) / len(lengths)),
        }  # fmt: skip
    print(json.dumps({"check": given.name, "kept": given.kept, "recipes": table}))


if __name__ == "__main__":
    main()
