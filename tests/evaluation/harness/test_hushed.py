"""The harness is silent in a block, whoever has given its lines a place before."""

from __future__ import annotations

import io
import logging
import sys

import pytest

from lengthwise.evaluation.harness.hushed import hushed


@pytest.mark.parametrize("quiet", [True, False])
def test_lines_with_a_place_of_their_own_are_kept_back_too(quiet: bool) -> None:
    logger, place = logging.getLogger("lm_eval"), io.StringIO()
    handler, level = logging.StreamHandler(place), logger.level
    logger.addHandler(handler)
    try:
        with hushed(quiet):
            logging.getLogger("lm_eval.api.task").warning("a metric has no aggregation")
            print("a bar", file=sys.stderr)
        assert logger.level == level
        logging.getLogger("lm_eval.api.task").warning("said afterwards")
    finally:
        logger.removeHandler(handler)
    lines = place.getvalue().splitlines()
    assert lines[-1] == "said afterwards" and len(lines) == (1 if quiet else 2)
