"""What an edit of a session costs, and reading with stored pieces, against reading again."""

from __future__ import annotations

from collections.abc import Callable
from statistics import median

import lengthwise
from benchmarks.figures import Table, text_ids, timed
from benchmarks.reproduction.sessions.following import distance, following
from lengthwise.api.session import Session

FOLLOWING = 64


def edit(rounds: int) -> Table:
    """An edit in the middle of a session, against reading from there on and reading all."""
    table = Table(
        "edit", "An edit in the middle of 8,192 tokens, seconds",
        "`session.edit` (PIE) against `exact=True`, which reads again from the edit on, and "
        "against reading the new text; medians of rounds in turn. KL: nats a token to full "
        "reading over the 64 tokens that follow.",
    )  # fmt: skip
    model, length = lengthwise.load(), 8192
    ids = text_ids(model, length + FOLLOWING + 1000)
    text, after = ids[:length], ids[length : length + FOLLOWING]
    base, middle = model.read(text), length // 2
    for name, stop, new in (
        ("insert 1 token", middle, ids[-1:]),
        ("insert 32", middle, ids[-32:]),
        ("delete 32", middle + 32, []),
        ("replace 256", middle + 256, ids[-256:]),
    ):
        whole_ids = [*text[:middle], *new, *text[stop:]]
        ways: dict[str, Callable[[Session], object]] = {
            "edit": lambda s, stop=stop, new=new: s.edit((middle, stop), new),  # type: ignore[misc]
            "from the edit on": lambda s, stop=stop, new=new: s.edit(  # type: ignore[misc]
                (middle, stop), new, exact=True
            ),
            "all": lambda s, ids=whole_ids: model.read(ids),  # type: ignore[misc]
        }
        seconds: dict[str, list[float]] = {way: [] for way in ways}
        for _ in range(rounds):
            for way, action in ways.items():
                session = base.fork()
                seconds[way].append(timed(lambda a=action, s=session: a(s)))  # type: ignore[misc]
        found = {way: median(each) for way, each in seconds.items()}
        edited = base.fork()
        edited.edit((middle, stop), new)
        whole = following(model.read(whole_ids), after)
        table.rows.append({
            "what": name, **found, "ratio": found["from the edit on"] / found["edit"],
            "ratio to all": found["all"] / found["edit"],
            "KL": distance(following(edited, after), whole, after).mean,
        })  # fmt: skip
    return table


def pieces(rounds: int) -> Table:
    """A document of which one passage is stored, by the share of it that is computed again."""
    table = Table(
        "pieces", "Reading 4,096 tokens of which 3,072 are a stored piece, seconds",
        "`Pieces.read` (KVShare) against `Model.read`; medians of rounds in turn. KL: nats a token "
        "to full reading over the 64 tokens that follow.",
    )  # fmt: skip
    model = lengthwise.load()
    ids = text_ids(model, 12_000)
    text, after = ids[:4096], ids[4096 : 4096 + FOLLOWING]
    store = lengthwise.Pieces(model)
    store.add([*ids[8000:8512], *text[512:3584]])
    whole = following(model.read(text), after)
    shares = ("0%", "15%", "30%", "100%")
    seconds: dict[str, list[float]] = {share: [] for share in (*shares, "read")}
    for _ in range(rounds):
        seconds["read"].append(timed(lambda: model.read(text)))
        for share in shares:
            seconds[share].append(timed(lambda share=share: store.read(text, recompute=share)))  # type: ignore[misc]
    for share in shares:
        found = store.read(text, recompute=share)
        table.rows.append({
            "computed again": share, "read": median(seconds["read"]),
            "with pieces": median(seconds[share]),
            "ratio": median(seconds["read"]) / median(seconds[share]),
            "KL": distance(following(found, after), whole, after).mean,
        })  # fmt: skip
    return table
