"""Drafters without training for vLLM, as the class that its `custom_class` method asks for.

    vllm.LLM(model, speculative_config={
        "method": "custom_class", "num_speculative_tokens": 8,
        "model": "lengthwise.integrations.vllm.FusedProposer",
    })

vLLM verifies one chain of guesses a request, so of a recipe's tree the path with the most tokens
that are expected to come true is proposed. What is accepted is vLLM's decision alone.

vLLM shows a proposer rows of tokens without saying which request is whose. A row is known by its
tokens, which are all that its drafters' state follows from. `recycling` reads the logits of what
was verified, where the model that vLLM hands over computes them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence as Seq
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from lengthwise.engine.speculative.acceptance import Acceptance
from lengthwise.engine.speculative.drafter import Drafter
from lengthwise.engine.speculative.tree import Tree
from lengthwise.engine.token_view import TokenView
from lengthwise.errors import LengthwiseError
from lengthwise.methods.base import Method
from lengthwise.methods.drafting.lookup import Lookup, LookupDrafter
from lengthwise.methods.drafting.recycling import Matrix, Recycling, RecyclingDrafter
from lengthwise.recipes import recipe_of

# Where vLLM's `additional_config` names a recipe, and the least probability of a guess.
KEY, OPTIONS = "lengthwise", {"least", "recipe"}
# A guess that comes true less often than this is not proposed (as vLLM's suffix decoding has it).
LEAST = 0.1
# Last tokens of two texts of one length that are compared before all of them are.
LAST = 16

Ids = NDArray[np.int32]


@dataclass
class Row:
    """One request: its tokens, who guesses for it, and what was guessed last.

    text: its tokens, with room behind them once it grows. ids: the same, as drafters read them.
    tree: all that was guessed behind the last token. draft: what of it was proposed.
    """

    text: Ids
    drafters: list[Drafter]
    acceptance: Acceptance
    ids: list[int] = field(init=False)
    tree: Tree | None = None
    draft: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.ids = self.text.tolist()

    def holds(self, tokens: Ids) -> bool:
        """Whether its text is `tokens`, all of them."""
        if len(self.ids) != len(tokens):
            return False
        text = self.text[: len(tokens)]
        return np.array_equal(text[-LAST:], tokens[-LAST:]) and np.array_equal(text, tokens)

    def extend(self, tokens: Ids) -> None:
        """Adds tokens to its text."""
        before, count = len(self.ids), len(self.ids) + len(tokens)
        if count > len(self.text):
            self.text = np.concatenate((self.text[:before], np.empty(count, np.int32)))
        self.text[before:count] = tokens
        self.ids.extend(tokens.tolist())


class Proposer:
    """Guesses of a recipe's drafters for the rows of a vLLM batch.

    `additional_config={"lengthwise": {"recipe": "lookup(max_match=8) + recycling", "least": 0.2}}`
    names another recipe than the class does, and from which probability on guesses are proposed.
    """

    recipe: ClassVar[str] = "lookup"

    def __init__(self, vllm_config: Any) -> None:
        """
        Args:
            vllm_config: vLLM's.

        Raises:
            LengthwiseError: for a recipe that holds anything but `lookup` and `recycling`, and for
                options that are not there.
        """
        given = _options(vllm_config.additional_config)
        text = given.get("recipe", self.recipe)
        self.least = _probability(given.get("least", LEAST))
        self.most = int(vllm_config.speculative_config.num_speculative_tokens)
        self.longest = int(vllm_config.model_config.max_model_len)
        vocab = int(vllm_config.model_config.get_vocab_size())
        self._makers = [_maker(method, vocab) for method in recipe_of(text).methods]
        if not self._makers:
            raise LengthwiseError(
                f"recipe {text!r} guesses nothing: give lookup, recycling or both"
            )
        self._rows: list[Row] = []
        self._room = int(vllm_config.scheduler_config.max_num_seqs)
        self._population = Acceptance()
        self._reads_logits = any(name == Recycling.name for name, _ in self._makers)
        self._noted: deque[Tensor] = deque(maxlen=4)

    def load_model(self, target: Any, *rest: Any, **more: Any) -> None:
        """vLLM has loaded its model. Where the recipe learns from logits they are noted from now
        on, as they are computed.

        Args:
            target: the model that vLLM runs.
            *rest: of no use here.
            **more: of no use here.
        """
        if not self._reads_logits:
            return
        compute, most = target.compute_logits, self._room * (self.most + 1)

        def noting(*given: Any, **named: Any) -> Any:
            logits = compute(*given, **named)
            # Samplers write into logits; those of a whole prompt are asked for by its user.
            if logits is not None and len(logits) <= most:
                self._noted.append(logits.clone())
            return logits

        target.compute_logits = noting

    def propose(
        self, sampled_token_ids: Seq[Seq[int]], num_tokens_no_spec: Ids, token_ids_cpu: Ids,
        slot_mappings: Any = None,
    ) -> list[list[int]]:  # fmt: skip
        """Guesses for every row of a batch.

        Args:
            sampled_token_ids: what each row has just said; nothing where its prompt goes on.
            num_tokens_no_spec: tokens of each row, those among them.
            token_ids_cpu: `[rows, longest]`, the tokens themselves.
            slot_mappings: of no use here.

        Returns:
            Token ids for each row, none where nothing is worth a guess.
        """
        unclaimed = self._rows
        rows: list[Row | None] = []
        for number, said in enumerate(sampled_token_ids):
            tokens = token_ids_cpu[number, : int(num_tokens_no_spec[number])]
            rows.append(self._row(tokens, len(said), unclaimed) if len(said) else None)
        self._learn(rows, sampled_token_ids)
        found = [row for row in rows if row is not None]
        # Rows that vLLM left out of this step may come back.
        self._rows = [*found, *unclaimed][: max(self._room, len(found))]
        return [[] if row is None else self._guess(row) for row in rows]

    def _row(self, tokens: Ids, said: int, unclaimed: list[Row]) -> Row:
        """The row whose text was `tokens` before it said the last of them, or a new one. It is not
        to be found again."""
        before = tokens[: len(tokens) - said]
        row = next((row for row in unclaimed if row.holds(before)), None)
        if row is None:
            drafters = [make() for _, make in self._makers]
            row = Row(before.copy(), drafters, Acceptance(self._population))
        else:
            # Another row may hold the same text, and is as good.
            del unclaimed[next(n for n, each in enumerate(unclaimed) if each is row)]
        row.extend(tokens[len(before) :])
        return row

    def _learn(self, rows: Seq[Row | None], said: Seq[Seq[int]]) -> None:
        """Tells acceptance and drafters what became of the guesses."""
        scored = [1 if row is None else 1 + len(row.draft) for row in rows]
        logits = next((each for each in self._noted if len(each) == sum(scored)), None)
        self._noted.clear()
        parts = [None] * len(rows) if logits is None else logits.split(scored)
        for row, new, part in zip(rows, said, parts, strict=True):
            if row is None:
                continue
            if row.tree is not None:
                row.acceptance.learn(row.tree, list(new))
            if part is not None:
                chain = Tree(row.ids[-len(new) - 1])
                chain.add_chain(row.draft)
                for drafter in row.drafters:
                    with drafter.lock:
                        drafter.learn(TokenView(row.ids), chain, part, range(len(new)))

    def _guess(self, row: Row) -> list[int]:
        limit = min(self.most, self.longest - len(row.ids) - 1)
        row.tree = Tree(row.ids[-1])
        if limit > 0:
            for drafter in row.drafters:
                row.tree.author = drafter.name
                with drafter.lock:
                    drafter.propose(TokenView(row.ids), row.tree, limit)
        row.draft = best_path(row.tree, row.acceptance.path_probs(row.tree), self.least, limit)
        return row.draft


class LookupProposer(Proposer):
    """What followed the last tokens where they stood before."""


class RecyclingProposer(Proposer):
    """The next best tokens behind every token that was verified."""

    recipe: ClassVar[str] = "recycling"


class FusedProposer(Proposer):
    """Both, weighed by how often each was right."""

    recipe: ClassVar[str] = "lookup + recycling"


def best_path(tree: Tree, probs: Seq[float], least: float, limit: int) -> list[int]:
    """The tokens of the path of which most are expected to come true.

    Args:
        tree: guesses below the last token.
        probs: by node, that its whole path comes true.
        least: probability below which a node is not followed.
        limit: most tokens.
    """
    expected = [0.0] * len(tree)
    # Children stand behind their parents.
    for node in reversed(range(1, len(tree))):
        if probs[node] >= least:
            below = max((expected[child] for child in tree.children[node].values()), default=0.0)
            expected[node] = probs[node] + below
    path: list[int] = []
    node = 0
    while tree.children[node] and len(path) < limit:
        node = max(tree.children[node].values(), key=lambda child: expected[child])
        if not expected[node]:
            break
        path.append(tree.tokens[node])
    return path


def _options(given: Any) -> Mapping[str, Any]:
    found = given.get(KEY, {}) if isinstance(given, Mapping) else {}
    if not isinstance(found, Mapping) or set(found) - OPTIONS:
        raise LengthwiseError(
            f"additional_config[{KEY!r}]={found!r}: give a dict with least, recipe or both"
        )
    return found


def _probability(given: Any) -> float:
    if isinstance(given, bool) or not isinstance(given, (int, float)) or not 0 <= given <= 1:
        raise LengthwiseError(f"least={given!r}: give a probability, 0 to 1")
    return float(given)


def _maker(method: Method, vocab: int) -> tuple[str, Callable[[], Drafter]]:
    """What makes a row's drafter; a table is shared by all rows."""
    if isinstance(method, Lookup):
        return method.name, lambda: LookupDrafter(method)
    if isinstance(method, Recycling) and not method.table:
        matrix = Matrix.empty(vocab)
        return method.name, lambda: RecyclingDrafter(
            method, Matrix.empty(vocab) if method.fresh else matrix
        )
    why = "keeps its table in memory in vLLM" if isinstance(method, Recycling) else (
        "cannot run in vLLM, which shows a proposer nothing but tokens"
    )  # fmt: skip
    raise LengthwiseError(f"{method} {why}: give lookup, recycling or lookup + recycling")


__all__ = ["FusedProposer", "LookupProposer", "Proposer", "RecyclingProposer", "best_path"]
