"""Path traversal: a way through cities of which each has one departure, told connection by
connection.

    From Adora one goes to Belin by bus.      ...in any order, among those of other cities

A unit is a hop. For each hop stand three connections in the context and one line in the reply, so a
quarter of the length is written.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping

from lengthwise.evaluation.scorers.procedures import route
from lengthwise.evaluation.tasks.benchmark import Sample, Wanted, shuffled
from lengthwise.evaluation.tasks.generated._shared.pairs import Grown, apart

OTHERS = 2
_WAYS = ("bus", "train", "plane", "ferry")
_SYLLABLES = (
    "ba", "bel", "cor", "da", "den", "el", "far", "ga", "hol", "im", "jo", "kal", "lin", "lo",
    "mar", "mi", "na", "nor", "or", "pel", "qui", "ra", "ros", "sa", "sil", "ta", "tor", "ul", "va",
    "wes", "xan", "yar", "zu",
)  # fmt: skip
_INTRO = "From each of the cities below one connection leaves.\n\n"
_ASKED = (
    "Find the way from {first} to {last}. Write one line for each connection that is taken, in "
    "order, between <Route> and </Route>, in this form:\n"
    "<Route>\nFrom Here to There by bus.\nFrom There to Elsewhere by ferry.\n</Route>"
)
_LINE = "From {here} to {there} by {way}."
_STATED = "From {here} one goes to {there} by {way}."


def path(wanted: Wanted, draw: random.Random) -> Callable[[int], Sample]:
    """What builds a sample of so many hops.

    Args:
        wanted: how long.
        draw: source of chance.
    """
    names, ways, order = apart(draw), apart(draw), draw.getrandbits(64)
    taken: set[str] = set()

    def city() -> tuple[str, str]:
        while (name := "".join(names.choices(_SYLLABLES, k=3)).capitalize()) in taken:
            pass
        taken.add(name)
        return name, ways.choice(_WAYS)

    on_way, aside = Grown(city), Grown(city)

    def build(hops: int) -> Sample:
        chain, rest = on_way.first(hops + 1), aside.first(OTHERS * hops)
        leads = random.Random(order)
        known = [name for name, _ in (*chain, *rest)]
        stated, lines = [], []
        for (here, way), (there, _) in zip(chain, chain[1:], strict=False):
            stated.append(_STATED.format(here=here, there=there, way=way))
            lines.append(_LINE.format(here=here, there=there, way=way))
        for here, way in (chain[-1], *rest):
            while (there := leads.choice(known)) == here:
                pass
            stated.append(_STATED.format(here=here, there=there, way=way))
        text = _INTRO + "\n".join(shuffled(stated, leads))
        asked = _ASKED.format(first=chain[0][0], last=chain[-1][0])
        # The first words are given, so that a small model does not repeat the form.
        begin = f"<Route>\nFrom {chain[0][0]} to"
        right = "\n".join(["<Route>", *lines, "</Route>"]).removeprefix(begin)
        return Sample(text, asked, (right,), wanted.tokens(right) * 11 // 10 + 16, begin)

    return build


def score_path(said: str, sample: Sample) -> Mapping[str, float]:
    """Whether the route is right as a whole, and the share before the first wrong line.

    Args:
        said: the reply.
        sample: that was asked.
    """
    right = (sample.begin + sample.references[0]).removeprefix("<Route>\n")
    said = said if "<Route>" in said else sample.begin + said
    found = route(said, right.removesuffix("</Route>"))
    return {"accuracy": found.accuracy, "partial": found.partial}


__all__ = ["OTHERS", "path", "score_path"]
