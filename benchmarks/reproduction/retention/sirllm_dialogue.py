"""SirLLM's three dialogues, turn by turn in one sequence.

Every turn goes through the model's chat template and is read into the sequence that holds the turns
before; of what may be answered the likeliest is chosen and said, and the next turn follows.
Likeliest by its first token, as in the authors' code, or where first tokens are equal by the mean
log p of all. Of an errand the plain questions are answered rightly, so that all recipes read the
same text. `loss` is the mean loss in nats of the right answers. `kept` is what each recipe holds of
the sequence; the model is loaded in float32.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from benchmarks.reproduction.harness import Found, Note, check, encode, load

import lengthwise
from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.engine.loop import prefill, teacher_force
from lengthwise.evaluation.tasks.dialogues import (
    MOVES,
    Dialogue,
    Score,
    Turn,
    game as rounds_of,
    grocery as errand,
    talks,
)

KEPT = 256


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
        answers = [encode(self.model, choice) for choice in turn.choices]
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
        return encode(self.model, added)


def played(dialogues: Iterable[Dialogue], kept: int) -> Iterator[tuple[str, Score, float]]:
    """Of each recipe how often it was right, and the loss of the right answers."""
    model, chosen = load("float32"), list(dialogues)
    for recipe in recipes(kept):
        score, nats = Score(), []
        for dialogue in chosen:
            player = Player(model, recipe)
            for turn in dialogue.turns:
                score.add(turn, player.ask(turn))
            nats += player.nats
        yield f"`{recipe}`", score, round(sum(nats) / len(nats), 3)


@check({"recipe": "", "right": "", "loss": ".2f"})
def grocery(count: int = 4, kept: int = KEPT) -> Iterator[Found]:
    """Something to buy, named once and asked for after 20 plain questions."""
    for recipe, score, loss in played(map(errand, range(count)), kept):
        yield {"recipe": recipe, "right": f"{score.right} of {score.asked}", "loss": loss}


@check({"recipe": "", "won": "", "ties": "", "lost": "", "loss": ".2f"})
def game(rounds: int = 60, kept: int = KEPT) -> Iterator[Found]:
    """Rock-Paper-Scissors against each of three preferences."""
    asked = 0
    for recipe, score, loss in played((rounds_of(m, rounds, seed=1) for m in MOVES), kept):
        asked = score.asked
        yield {"recipe": recipe, "won": score.right, "ties": score.ties, "lost": score.lost,
               "loss": loss}  # fmt: skip
    yield Note(rounds=asked)


@check({"recipe": "", "right": "", "loss": ".2f"})
def talk(count: int = 12, kept: int = KEPT) -> Iterator[Found]:
    """Which of four remarks answers the last one, in short talks that follow each other."""
    for recipe, score, loss in played([talks(count)], kept):
        yield {"recipe": recipe, "right": f"{score.right} of {score.asked}", "loss": loss}
