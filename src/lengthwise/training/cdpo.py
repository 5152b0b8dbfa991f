"""cDPO: in a wrong solution the tokens that doomed it weigh most against it.

Lin et al., "Critical Tokens Matter: Token-Level Contrastive Estimation Enhances LLM's Reasoning
Capability", ICML 2025, arXiv:2411.19943. Of one model two are tuned: one on right solutions, one on
wrong ones of the same problems. What they say of a token tells how critical it is:

    s_t = softmax_v((1 + contrast) log p+(v) - contrast log p-(v)) at v = y_t         low: critical

The scores are computed once, before the policy moves, and stored. They are weights of DPO:

    rejected = sum_t (1 - s_t) (log pi(y_t) - log ref(y_t)),    the last token, the end, weighs 1
    chosen   = sum_t (log pi(y_t) - log ref(y_t)),              or each times s_t (weights=both)
    loss     = -log sigmoid(beta (chosen - rejected))

`weights=none` is DPO (Rafailov et al., 2023, arXiv:2305.18290). Prompts do not count, and no side
is divided by its length. Defaults are the paper's: contrast 1, beta 0.1; its rates (4e-5, and 3e-4
for the two) are for LoRA on 8B. Only what takes gradients is trained, so a model under LoRA of peft
may be given. Ours follows the paper's sums: the released code applies the sigmoid to each place of
the padded pair by itself.
"""

from __future__ import annotations

import copy
import json
import math
import os
from collections.abc import Callable, Sequence as Seq
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedModel

from lengthwise._utils.files import write_text
from lengthwise._utils.papers import Paper
from lengthwise.training.config import TrainingError
from lengthwise.training.fitting import fit_batches, padded_ids, written_loss

PAPER = Paper(
    "Critical Tokens Matter: Token-Level Contrastive Estimation Enhances LLM's Reasoning "
    "Capability",
    "Lin et al.", 2025, arxiv="2411.19943", venue="ICML",
    code="https://github.com/chenzhiling9954/Critical-Tokens-Matter",
)  # fmt: skip
WEIGHTS = ("rejected", "both", "none")
_KIND = "lengthwise critical tokens 1"


@dataclass(frozen=True)
class Preference:
    """Two solutions of one problem, in tokens; each ends with what ends a text.

    chosen_scores, rejected_scores: s of each token; empty where they are not computed.
    """

    prompt: tuple[int, ...]
    chosen: tuple[int, ...]
    rejected: tuple[int, ...]
    chosen_scores: tuple[float, ...] = ()
    rejected_scores: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if not (self.prompt and self.chosen and self.rejected):
            raise TrainingError("a prompt or a solution has no token")
        for said, scores in (
            (self.chosen, self.chosen_scores), (self.rejected, self.rejected_scores)
        ):  # fmt: skip
            if scores and len(scores) != len(said):
                raise TrainingError(f"{len(scores)} scores for {len(said)} tokens")
            if not all(0 <= score <= 1 for score in scores):
                raise TrainingError("a score is no probability: score the pairs again")


@dataclass(frozen=True)
class Tuning:
    """How something is trained, by AdamW on batches that are drawn.

    steps: updates. batch: texts of one. lr: the highest rate, which falls linearly to a tenth.
    clip: most that the norm of a gradient may be. beta: of DPO. weights: which side's tokens are
    weighed: "rejected", "both" or "none".
    """

    steps: int = 1000
    batch: int = 32
    lr: float = 4e-5
    clip: float = 1.0
    seed: int = 0
    beta: float = 0.1
    weights: str = "rejected"

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "lr", "clip", "beta"):
            if not getattr(self, name) > 0:
                raise TrainingError(f"{name}={getattr(self, name)}: give a number above 0")
        if self.weights not in WEIGHTS:
            raise TrainingError(f"weights={self.weights}: allowed is {', '.join(WEIGHTS)}")


def tuned(
    model: PreTrainedModel, solutions: Seq[tuple[Seq[int], Seq[int]]], how: Tuning,
    told: Callable[[int, float], None] = lambda step, loss: None,
) -> PreTrainedModel:  # fmt: skip
    """A copy of a model tuned on solutions: the positive or the negative one.

    Args:
        model: stays as it is.
        solutions: prompts with what is to be said, in tokens; at least one.
        how: how it is tuned.
        told: called with each step and its loss.

    Raises:
        TrainingError: where there are none, or for a loss that is no number.
    """
    if not solutions:
        raise TrainingError("there are no solutions to tune a model on")
    found = copy.deepcopy(model)

    def loss_of(batch: Seq[tuple[Seq[int], Seq[int]]]) -> Tensor:
        rows = [(*prompt, *said) for prompt, said in batch]
        return written_loss(found, rows, [len(prompt) for prompt, _ in batch])

    fit_batches(found, loss_of, solutions, how, told)
    return found


@torch.no_grad()
def scores(
    positive: PreTrainedModel, negative: PreTrainedModel, prompt: Seq[int], said: Seq[int],
    contrast: float = 1.0,
) -> list[float]:  # fmt: skip
    """How little critical each token of a solution is, from 0 (doomed it) to 1.

    Args:
        positive: tuned on right solutions.
        negative: tuned on wrong ones.
        prompt: tokens before it.
        said: the solution.
        contrast: weight of the negative model.
    """
    good, bad = (_laws(model, prompt, said) for model in (positive, negative))
    law = ((1 + contrast) * good - contrast * bad).softmax(-1)
    found: list[float] = law[torch.arange(len(said)), torch.tensor(said)].tolist()
    return found


def _laws(model: PreTrainedModel, prompt: Seq[int], said: Seq[int]) -> Tensor:
    """log p `[said, vocab]` of each token of a solution."""
    ids = torch.tensor([[*prompt, *said]], device=model.device)
    logits: Tensor = model(ids, use_cache=False).logits[0, len(prompt) - 1 : -1]
    return logits.float().log_softmax(-1).cpu()


def scored(
    positive: PreTrainedModel, negative: PreTrainedModel, pairs: Seq[Preference],
    contrast: float = 1.0,
) -> list[Preference]:  # fmt: skip
    """Pairs with the scores of both sides; arguments as those of `scores`."""
    return [
        replace(
            each,
            chosen_scores=tuple(scores(positive, negative, each.prompt, each.chosen, contrast)),
            rejected_scores=tuple(scores(positive, negative, each.prompt, each.rejected, contrast)),
        )
        for each in pairs
    ]


def save_pairs(pairs: Seq[Preference], path: Path | str) -> None:
    """Writes pairs with their scores: a line of JSON that says what it is, then one a pair.

    Args:
        pairs: in order.
        path: of the file, which is written aside and renamed.
    """
    lines = [
        json.dumps({"kind": _KIND, "pairs": len(pairs)}),
        *(json.dumps(asdict(p)) for p in pairs),
    ]
    write_text(Path(os.path.realpath(path)), "\n".join(lines) + "\n")


def load_pairs(path: Path | str) -> list[Preference]:
    """Pairs that `save_pairs` wrote.

    Args:
        path: of the file.

    Raises:
        TrainingError: for a file that is none, or is cut off.
    """
    try:
        first, *lines = Path(path).read_text(encoding="utf-8").splitlines()
        about = json.loads(first)
        if not isinstance(about, dict) or about.get("kind") != _KIND:
            raise TrainingError(f"{path}: these are no pairs with scores; lengthwise.training.cdpo "
                                "writes them")  # fmt: skip
        if about["pairs"] != len(lines):
            raise TrainingError(f"{path}: it has {len(lines)} of {about['pairs']} pairs; score "
                                "them again")  # fmt: skip
        return [
            Preference(**{name: tuple(value) for name, value in json.loads(line).items()})
            for line in lines
        ]
    except OSError as error:
        raise TrainingError(f"{path}: cannot be read ({error.strerror or error})") from error
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise TrainingError(f"{path}: it is damaged ({error}); score the pairs again") from error


def token_weights(pair: Preference, which: str) -> tuple[list[float], list[float]]:
    """What each token of the chosen and of the rejected side counts.

    Args:
        pair: with the scores that are asked for.
        which: "rejected", "both" or "none".

    Raises:
        TrainingError: where the scores are missing.
    """
    if which == "none":
        return [1.0] * len(pair.chosen), [1.0] * len(pair.rejected)
    if not pair.rejected_scores or (which == "both" and not pair.chosen_scores):
        raise TrainingError("a pair has no scores: give it to `scored` first")
    chosen = [*pair.chosen_scores[:-1], 1.0] if which == "both" else [1.0] * len(pair.chosen)
    return chosen, [*(1 - score for score in pair.rejected_scores[:-1]), 1.0]


def log_probs(model: PreTrainedModel, rows: Seq[tuple[Seq[int], Seq[int]]]) -> list[Tensor]:
    """log p `[said]` of each token of solutions.

    Args:
        model: whose they are.
        rows: prompts with what was said.
    """
    ids = padded_ids([(*prompt, *said) for prompt, said in rows], model.device, 0)
    logits = model(ids, use_cache=False).logits[:, :-1].float()
    found = -F.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten(), reduction="none")
    whole = found.view(len(rows), -1)
    return [
        row[len(prompt) - 1 : len(prompt) + len(said) - 1]
        for row, (prompt, said) in zip(whole, rows, strict=True)
    ]


def preference_loss(margins: Tensor, beta: float) -> Tensor:
    """-log sigmoid(beta margin), on the mean.

    Args:
        margins: `[pairs]`, chosen less rejected, of weighted log-ratios.
        beta: above 0.
    """
    return -F.logsigmoid(beta * margins).mean()


def train_policy(
    policy: PreTrainedModel, pairs: Seq[Preference], how: Tuning,
    told: Callable[[int, float], None] = lambda step, loss: None,
) -> None:  # fmt: skip
    """DPO, its tokens weighed, in place; the reference is the policy as it was.

    Args:
        policy: that is trained.
        pairs: at least one, with the scores that `how.weights` asks for.
        how: how it is trained.
        told: called with each step and its loss.

    Raises:
        TrainingError: where there are none, scores are missing, or a loss is no number.
    """
    if not pairs:
        raise TrainingError("there are no pairs to train on")
    weights = [token_weights(each, how.weights) for each in pairs]
    policy.eval()
    reference = [_sides(policy, [n], pairs) for n in range(len(pairs))]

    def loss_of(batch: Seq[int]) -> Tensor:
        found = _sides(policy, batch, pairs, grad=True)
        margins = []
        for n, now in zip(batch, zip(*found, strict=True), strict=True):
            chosen, rejected = (
                (torch.tensor(own, device=each.device) * (each - before[0])).sum()
                for own, each, before in zip(weights[n], now, reference[n], strict=True)
            )
            margins.append(chosen - rejected)
        return preference_loss(torch.stack(margins), how.beta)

    fit_batches(policy, loss_of, range(len(pairs)), how, told)


def _sides(
    model: PreTrainedModel, which: Seq[int], pairs: Seq[Preference], grad: bool = False
) -> tuple[list[Tensor], list[Tensor]]:
    """log p of each token of the chosen and of the rejected sides of some pairs."""
    with torch.set_grad_enabled(grad):
        rows = [(pairs[n].prompt, pairs[n].chosen) for n in which]
        rows += [(pairs[n].prompt, pairs[n].rejected) for n in which]
        found = log_probs(model, rows)
    if not all(math.isfinite(float(each.detach().sum())) for each in found):
        raise TrainingError("a log-probability is no number: train with a lower lr")
    return found[: len(which)], found[len(which) :]


__all__ = [
    "PAPER", "WEIGHTS", "Preference", "Tuning", "load_pairs", "log_probs", "preference_loss",
    "save_pairs", "scored", "scores", "token_weights", "train_policy", "tuned",
]  # fmt: skip
