"""What a model supports, question by question: the answer of `lengthwise check`.

A model that adapts at all has passed the comparison with its stock logits; here every registered
method is asked whether this model can run it, and why not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from transformers import PreTrainedModel

from lengthwise.errors import LengthwiseError, UnsupportedModel

if TYPE_CHECKING:
    from lengthwise.models.adapted_model import AdaptedModel


@dataclass(frozen=True)
class Answer:
    """One question: methods that run, methods that are refused with the reason, and a remark."""

    question: str
    runs: tuple[str, ...]
    refused: tuple[tuple[str, str], ...] = ()
    note: str = ""

    @property
    def supported(self) -> bool:
        return bool(self.runs)

    def __str__(self) -> str:
        lines = [f"  {self.question:10} {', '.join(self.runs) if self.runs else 'none'}"]
        if self.note:
            lines.append(f"{'':13}{self.note}")
        by_reason: dict[str, list[str]] = {}
        for name, reason in self.refused:
            by_reason.setdefault(reason, []).append(name)
        lines += [f"{'':13}not {', '.join(names)}: {why}" for why, names in by_reason.items()]
        return "\n".join(lines)


@dataclass(frozen=True)
class Support:
    """What a model of `family` supports. reason: why it cannot be adapted at all, or empty."""

    family: str
    answers: tuple[Answer, ...] = ()
    facts: tuple[str, ...] = ()
    reason: str = ""

    @property
    def supported(self) -> bool:
        return not self.reason

    def __getitem__(self, question: str) -> Answer:
        for answer in self.answers:
            if answer.question == question:
                return answer
        raise KeyError(question)

    def __str__(self) -> str:
        if self.reason:
            return f"{self.family}: not supported: {self.reason}"
        lines = [f"{self.family}: supported, logits equal to the stock model's"]
        lines += [f"  {fact}" for fact in self.facts]
        return "\n".join([*lines, *map(str, self.answers)])


def check(model: AdaptedModel | PreTrainedModel) -> Support:
    """Asks every registered method; never raises for a model that cannot be adapted.

    Args:
        model: adapted, or of transformers.

    Returns:
        The answers; where the model cannot be adapted, the reason.
    """
    from lengthwise.methods.slots import questions
    from lengthwise.models.adapt import adapt

    if isinstance(model, PreTrainedModel):
        try:
            model = adapt(model)
        except UnsupportedModel as error:
            return Support(error.family, reason=error.reason)
    own = [layer for layer in model.layers if layer.window is not None]
    note = ""
    if own:
        note = f"{len(own)} of {len(model.layers)} layers keep a window of their own, left as it is"
    answers = tuple(_answer(question, model, note) for question in questions())
    return Support(model.family, answers, _facts(model))


def _answer(question: str, model: AdaptedModel, note: str) -> Answer:
    # Methods stand above models; they are looked up only here, when somebody asks.
    from lengthwise.recipes import resolve
    from lengthwise.recipes.registry import methods

    runs, refused = [], []
    for name, cls in methods().items():
        if cls.question != question:
            continue
        try:
            resolve((cls(),), model)
            runs.append(name)
        except LengthwiseError as error:
            refused.append((name, str(error).removeprefix(f"{name} ")))
    return Answer(question, tuple(runs), tuple(refused), note if question != "drafting" else "")


def _facts(model: AdaptedModel) -> tuple[str, ...]:
    layers = model.layers
    first = layers[0]
    found = [
        f"{len(layers)} layers, {first.num_heads} heads, {first.num_kv_heads} key heads, trained "
        f"at {model.trained_length:,} tokens, {model.bytes_per_token:,} KV bytes a token"
    ]
    rotated = [layer for layer in layers if layer.layout is not None]
    if model.rope is None:
        found.append("no rotary positions")
    elif len(rotated) < len(layers):
        found.append(f"{len(layers) - len(rotated)} layers without rotary positions")
    windows = sorted({layer.window for layer in layers if layer.window is not None})
    if windows:
        found.append(f"windows of its own: {', '.join(f'{w:,}' for w in windows)} tokens")
    if first.softcap is not None:
        found.append(f"logits capped at {first.softcap:g}")
    if first.sinks is not None:
        found.append("learned sinks")
    if model.switch is not None:
        found.append(f"rotary frequencies of its own that change beyond {model.switch:,} tokens")
    return tuple(found + model.notes)


__all__ = ["Answer", "Support", "check"]
