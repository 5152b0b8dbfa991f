"""RankGen: samples, of which a trained ranker keeps those that go best behind the text.

Krishna et al., "RankGen: Improving Text Generation with Large Ranking Models", EMNLP 2022,
arXiv:2205.09726. A ranker is an encoder e(.) of prefixes and continuations, and

    score(y | x) = e(x) . e(y)

Over-generate and rerank draws `samples` texts by nucleus sampling and keeps the best. The beam does
so a chunk at a time: behind each of its `beam` texts `samples` continuations of `tokens` tokens are
drawn, all are scored whole behind the same prefix, and the best `beam` go on. A text that has
ended stays with its score.

    rankgen(path=FILE)                                   beam 2, 10 samples of 20 tokens
    rankgen(path=FILE, beam=1, samples=10, tokens=0)     the best of 10 whole texts

As in the released code all beams are empty at first, so that the first chunk is drawn beam *
samples times. A request's own temperature and the rest hold where it draws; a greedy one draws as
`top_p` and `temperature` say.

Ours: the ranker is trained here (`lengthwise ranker train`), small, and reads the model's own
tokens. It keeps the end of a prefix and the beginning of a continuation, where the released code
keeps the beginning of both. Beyond what a ranker reads of a continuation the prefix grows: the
last tokens of the text are scored behind all before them. Samples are forks of one reading, fed in
one forward. The released code counts tokens over all prompts together, which ends later texts
early; here each has its own count. A ranker of another kind is a subclass whose `ranker` gives it.
"""

from __future__ import annotations

from collections.abc import Sequence as Seq, Set
from dataclasses import dataclass, field, replace
from typing import ClassVar

from torch import Tensor

from lengthwise.engine.decoding_mode import Alternative, DecodingMode, StepInput
from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.engine.sampler import DRAWN, Sampler
from lengthwise.errors import Refused
from lengthwise.methods.base import Method, Paper, Question, option
from lengthwise.methods.decoding._shared.example_ranker import example_ranker
from lengthwise.models.adapted_model import AdaptedModel
from lengthwise.retrieval.ranker import Ranker, load_ranker, require_reads


@dataclass(frozen=True)
class RankGen(Method):
    """path: the ranker. beam: texts that go on. samples, tokens: how many continuations of each are
    drawn, and how long. top_p, temperature: of a request that asks for no sampling."""

    name: ClassVar[str] = "rankgen"
    question: ClassVar[Question] = Question.DECODING
    paper: ClassVar[Paper] = Paper(
        "RankGen: Improving Text Generation with Large Ranking Models", "Krishna et al.", 2022,
        arxiv="2205.09726", venue="EMNLP",
        code="https://github.com/martiansideofthemoon/rankgen",
    )  # fmt: skip
    path: str = option("", "file made by `lengthwise ranker train`")
    beam: int = option(2, "texts that go on", low=1, high=64)
    samples: int = option(10, "continuations drawn of each", low=1, high=256)
    tokens: int = option(20, "tokens of a continuation; 0 is the whole text", low=0)
    top_p: float = option(0.9, "of the nucleus, where a request asks for no sampling", low=0.0,
                          high=1.0)  # fmt: skip
    temperature: float = option(1.0, "where a request asks for no sampling", low=0.0)

    @classmethod
    def identity(cls, length: int) -> RankGen:
        """Greedy decoding."""
        return cls(beam=1, samples=1, temperature=0.0)

    @classmethod
    def example(cls) -> RankGen:
        return cls(path=example_ranker(), samples=2, tokens=3)

    @property
    def chooses(self) -> bool:
        """Whether there is more than one text to choose from."""
        return self.beam * self.samples > 1

    def check(self, model: AdaptedModel) -> None:
        """Opens the ranker and compares its tokenizer with the model's."""
        if self.chooses:
            self.ranker(model)

    def ranker(self, model: AdaptedModel) -> Ranker:
        """What scores the texts.

        Args:
            model: that writes them.

        Raises:
            Refused: where none is named, or one of another tokenizer.
            RecipeError: for a file that holds none.
        """
        if not self.path:
            raise Refused(
                "rankgen keeps what a trained ranker prefers, and none is named",
                "train one by `lengthwise ranker train TEXT... -o FILE` and write "
                "rankgen(path=FILE); beam keeps what the model itself finds likeliest",
            )
        found = load_ranker(self.path)
        require_reads(found, self.path, model)
        return found

    def start_mode(self, model: AdaptedModel) -> RankedSamples:
        return RankedSamples(self, self.ranker(model) if self.chooses else None)


@dataclass
class _Text:
    """A text that grows. tokens: behind the prompt. logits: of what follows, where all of them are
    fed. stream: of its noise. ended: nothing may follow. by_stop: it ended by a stop token."""

    sequence: Sequence
    tokens: list[int] = field(default_factory=list)
    logits: Tensor | None = None
    stream: int = 0
    ended: bool = False
    by_stop: bool = False
    score: float = 0.0


class RankedSamples(DecodingMode):
    """Chunks of samples, of which a ranker keeps the best.

    kept: texts that go on, best first. drawn: those of the chunk under way.
    """

    def __init__(self, options: RankGen, ranker: Ranker | None) -> None:
        self.options, self.ranker = options, ranker
        self.kept: list[_Text] = []
        self.drawn: list[_Text] = []
        self.goal = self.fed = self.scored = 0

    def begin(self, sampler: Sampler, limit: int, stop_ids: Set[int]) -> None:
        options = self.options
        if sampler.sampling.temperature == 0 and options.temperature > 0:
            sampler.sampling = replace(
                sampler.sampling, temperature=options.temperature, top_p=options.top_p
            )
            sampler.obey(())
        self.sampler, self.limit, self.stop_ids = sampler, limit, stop_ids

    def start(self, sequence: Sequence, logits: Tensor) -> None:
        self.prompt = list(sequence.tokens)
        self._context = list(self.prompt)
        # The first fork freezes what the prompt left, and all others hold it in common.
        root = _Text(sequence.branch(), logits=logits)
        self._draw([root], self.options.beam * self.options.samples)

    @property
    def done(self) -> bool:
        return not self.drawn and all(text.ended for text in self.kept)

    def _growing(self) -> list[_Text]:
        """Texts whose last token is to be fed."""
        if self.drawn:
            return [text for text in self.drawn if self._goes_on(text)]
        return [text for text in self.kept if not text.ended]

    def _goes_on(self, text: _Text) -> bool:
        return not text.ended and len(text.tokens) < self.goal

    def step_inputs(self) -> list[StepInput]:
        return [StepInput(text.sequence, text.tokens[-1]) for text in self._growing()]

    def advance(self, logits: Seq[Tensor]) -> None:
        self.fed += len(logits)
        growing = self._growing()
        if self.drawn:
            for text, each in zip(growing, logits, strict=True):
                self._grow(text, each)
            self._choose()
            return
        for text, each in zip(growing, logits, strict=True):
            text.logits = each
        self._draw(self.kept, self.options.samples)

    def _draw(self, texts: Seq[_Text], samples: int) -> None:
        """Begins a chunk: so many continuations behind each text that goes on."""
        length = len(next(text for text in texts if not text.ended).tokens)
        self.goal = min(self.limit, length + self.options.tokens) if self.options.tokens else 0
        self.goal = self.goal or self.limit
        self.drawn = []
        for text in texts:
            if text.ended:
                self.drawn.append(text)
                continue
            for number in range(samples):
                # The last one takes the sequence over.
                last = number == samples - 1
                sequence = text.sequence if last else text.sequence.fork()
                self.drawn.append(_Text(sequence, list(text.tokens), text.logits))
        for number, text in enumerate(self.drawn):
            text.stream = DRAWN + number if number else 0
            if text.logits is not None and not text.ended:
                self._grow(text, text.logits)
        self._choose()

    def _grow(self, text: _Text, logits: Tensor) -> None:
        """One token more, drawn by the text's own noise."""
        sampler, context = self.sampler, self._context
        # The prompt may be long, and stays: what stands behind it is exchanged.
        context[len(self.prompt) :] = text.tokens
        scores = sampler.process(logits, context)
        if sampler.sampling.temperature > 0:
            scores = scores.log_softmax(-1) + sampler.noise(len(context), scores, text.stream)
        token, text.logits = int(scores.argmax()), None
        if token in self.stop_ids:
            text.ended = text.by_stop = True
            return
        text.tokens.append(token)
        text.ended = sampler.ends(text.tokens) or len(text.tokens) >= self.limit

    def _choose(self) -> None:
        """Ends the chunk where all of its texts are drawn: the best go on."""
        if any(self._goes_on(text) for text in self.drawn):
            return
        different: dict[tuple[int, ...], _Text] = {}
        for text in self.drawn:
            different.setdefault((text.by_stop, *text.tokens), text)
        texts = list(different.values())
        if self.ranker is not None:
            for text, score in zip(texts, self._scores(self.ranker, texts), strict=True):
                text.score = score
        self.kept = sorted(texts, key=lambda text: -text.score)[: self.options.beam]
        self.drawn = []

    def _scores(self, ranker: Ranker, texts: Seq[_Text]) -> list[float]:
        """Of each text behind the prompt; an empty one is as its stop token alone would be."""
        self.scored += len(texts)
        reads = getattr(getattr(ranker, "shape", None), "suffix", None)
        empty = sorted(self.stop_ids)[:1] or [0]
        whole = [text.tokens or empty for text in texts]
        if reads is None or all(len(tokens) <= reads for tokens in whole):
            return ranker.scores(self.prompt, whole)
        return [
            ranker.scores([*self.prompt, *tokens[:-reads]], [tokens[-reads:]])[0]
            for tokens in whole
        ]

    def alternatives(self) -> list[Alternative]:
        return [Alternative(text.tokens, text.score, text.by_stop) for text in self.kept]

    @property
    def width(self) -> int:
        return self.options.beam * self.options.samples

    def held(self) -> list[Sequence]:
        return [text.sequence for text in self.drawn or self.kept]

    @property
    def figures(self) -> dict[str, float]:
        return {"rankgen: tokens fed": float(self.fed), "rankgen: texts scored": float(self.scored)}


__all__ = ["RankGen", "RankedSamples"]
