"""How far a reader has to go to follow one decoding step."""

from __future__ import annotations

import sys
from pathlib import Path
from types import FrameType

import lengthwise
from lengthwise.engine import loop
from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.engine.sampling import Sampling
from lengthwise.models.adapt import adapt
from lengthwise.testing.tiny import tiny_model

MOST = 9


def test_a_plain_step_of_full_goes_through_nine_files() -> None:
    """Files of ours whose code runs, not only those that are named; docs/life-of-a-request.md."""
    model = adapt(tiny_model("llama"))
    assert model.fast is not None
    sequence = Sequence(model, expected=32)
    request = loop.begin(sequence, Sampling(), 16, ())
    loop.start(request, loop.prefill(sequence, list(range(3, 15))))
    loop.step([request])
    source, seen = Path(lengthwise.__file__).parent, set()

    def note(frame: FrameType, event: str, _: object) -> None:
        path = Path(frame.f_code.co_filename)
        if event == "call" and source in path.parents:
            seen.add(path.relative_to(source).as_posix())

    sys.setprofile(note)
    try:
        loop.step([request])
    finally:
        sys.setprofile(None)
    assert len(seen) <= MOST, sorted(seen)
    page = (source.parents[1] / "docs" / "life-of-a-request.md").read_text(encoding="utf-8")
    told = page[page.index("A step of `full` goes through") :]
    assert [path for path in sorted(seen) if path not in told] == []
