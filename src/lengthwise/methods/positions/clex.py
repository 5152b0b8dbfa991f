"""CLEX: rotary frequencies that follow the length of the text along a learned path.

Chen et al., "CLEX: Continuous Length Extrapolation for Large Language Models", ICLR 2024,
arXiv:2310.16450.

Position scaling is taken as a continuous movement of the frequencies. A small network says in which
direction they move as the scale t grows, and an ordinary differential equation gives them for
any t. Weights and network are trained together on rows of the trained length L0, whose tokens stand
at positions drawn from a text t times as long.

    t = ceil(n / L0), at most max_factor            n tokens of text so far; the prompt's at first
    f(t) = exp x(t),  x(1) = ln f                   see `scale_network` for dx/dt
    training: t drawn from 1 .. max_factor; positions 0, L0 - 2 of those between, and L0 t - 1

At t = 1 frequencies and text are the model's own. When t grows, all keys are turned anew: they are
cached un-rotated. What deeper layers computed under an older t stays, so decoding past a multiple
of L0 is not a prefill. `length` freezes t and makes it exact.

A run of `lengthwise train` with `[positions] name = "clex"` trains it, and leaves the network in
the folder of its model. What reads that model finds it there, and keeps it in the cache under the
fingerprint of model and dtype. `network=false` runs without: along the law that training begins at,
which is NTK scaling by 2t - 1.

Ours differs in four ways. The step of the integration is 0.05 and not 0.01. The law has the base of
the model, where the code has 10,000 for all. Rows are not longer than L0, where the code spreads
longer ones over fractions. The query factor ln n / ln L0 is left out: the released training does
not use it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from rich.console import Console
from torch import Tensor

from lengthwise.errors import LengthwiseError, Refused
from lengthwise.methods import calibration
from lengthwise.methods.base import Method, Paper, Question, option
from lengthwise.methods.positions.frequency import needs_still_frequencies
from lengthwise.methods.positions.scale_network import FILE, ScaleNetwork
from lengthwise.models.adapted_model import AdaptedModel
from lengthwise.models.rope import FrequencyRule, RopeFacts


@dataclass(frozen=True)
class CLEX(Method):
    """max_factor: the largest t. length: None follows the text; otherwise t is that of a text of
    `length` tokens from the start. network: whether a trained one is used."""

    name: ClassVar[str] = "clex"
    question: ClassVar[Question] = Question.POSITIONS
    paper: ClassVar[Paper] = Paper(
        "CLEX: Continuous Length Extrapolation for Large Language Models",
        "Chen et al.",
        2024,
        arxiv="2310.16450",
        venue="ICLR",
        code="https://github.com/DAMO-NLP-SG/CLEX",
    )
    decoding_exact: ClassVar[bool] = False
    raw_keys: ClassVar[bool] = True
    max_factor: int = option(16, "how many times longer than trained the text may be", low=1)
    length: int | None = option(None, "tokens the scale is frozen at (none: follow it)", low=1)
    network: bool = option(True, "the scale network that the model was trained with")

    @classmethod
    def identity(cls, length: int) -> CLEX:
        return cls(max_factor=1, network=False)

    @classmethod
    def example(cls) -> CLEX:
        return cls(network=False)

    def check(self, model: AdaptedModel) -> None:
        needs_still_frequencies(self, model)
        self.scaling(model)

    def scaling(self, model: AdaptedModel) -> ScaleNetwork:
        """What gives frequencies by the scale; raises Refused where it was not trained."""
        assert model.rope is not None
        turned = [facts.rotary_dim // 2 for facts in model.rope.facts.values()]
        if not turned:
            raise Refused(
                f"clex scales rotary frequencies, and no layer without a window of its own of this "
                f"{model.family!r} model has any",
                "use a selection, retention or codec method instead",
            )
        pairs = max(turned)
        if not self.network:
            return ScaleNetwork(pairs, model.trained_length, self.max_factor).requires_grad_(False)
        found = trained_network(model)
        if found.up.shape[0] != pairs:
            raise Refused(
                f"clex: the scale network is of {found.up.shape[0]} pairs of channels, and this "
                f"{model.family!r} model rotates {pairs}",
                'train one with this model: [positions] name = "clex" of lengthwise train',
            )
        if self.max_factor < found.largest:
            found.largest = self.max_factor
        return found

    def frequencies(self, model: AdaptedModel) -> FrequencyRule:
        network, known = self.scaling(model), dict[tuple[object, ...], Tensor]()

        def scale(inv_freq: Tensor, facts: RopeFacts, length: int) -> tuple[Tensor, float]:
            here = network.scale_of(self.length or length)
            key = here, facts, tuple(inv_freq.tolist())
            if key not in known:
                own = inv_freq.detach().float().cpu()
                known[key] = network.frequencies(own, facts.rotary_dim, here)
            return known[key].to(inv_freq.device), 1.0

        if self.length:
            return FrequencyRule(scale)
        step = network.trained
        return FrequencyRule(scale, dynamic=True, interval=step, still=step)


def trained_network(model: AdaptedModel) -> ScaleNetwork:
    """The network in the folder that a model was loaded from, else the one kept for this model.

    Raises:
        Refused: where there is none.
        LengthwiseError: for a damaged file that nothing makes anew.
    """
    place = Path(str(getattr(model.model, "name_or_path", "") or "")) / FILE
    if place.is_file():
        try:
            numbers = json.loads(place.read_text(encoding="utf-8"))
            found = ScaleNetwork.of(numbers)
        except (OSError, ValueError, RecursionError, LengthwiseError) as error:
            raise LengthwiseError(
                f"{place}: this scale network is damaged ({error}); delete it and run the same "
                "`lengthwise train` again"
            ) from error
        if not _kept(model, numbers):
            calibration.save("clex", model, numbers)
            Console(markup=False, stderr=True).print(
                f"clex: the scale network of {place.parent} is kept for this model",
                soft_wrap=True,
            )
        return found
    kept = calibration.find("clex", model)
    if kept is None:
        raise Refused(
            f"clex needs a scale network trained with this {model.family!r} model",
            'train both by lengthwise train with [positions] name = "clex" and read the model that '
            "it leaves, or write clex(network=false) for the law without one",
        )
    try:
        return ScaleNetwork.of(kept)
    except LengthwiseError as error:
        path = calibration.artefact_path("clex", model)
        raise LengthwiseError(
            f"{path}: this calibration is damaged ({error}); read the model once from the folder "
            "that it was trained in"
        ) from error


def _kept(model: AdaptedModel, numbers: dict[str, object]) -> bool:
    """Whether the cache holds these numbers for this model; a damaged file holds none."""
    try:
        kept = calibration.find("clex", model) or {}
    except LengthwiseError:
        return False
    return all(kept.get(key) == value for key, value in numbers.items())


__all__ = ["CLEX", "trained_network"]
