"""Keeps bars and lines of the harness off a terminal on which lengthwise shows its own."""

from __future__ import annotations

import io
import logging
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout

from huggingface_hub.utils import logging as hub

# Where it is set, a bootstrap of the harness starts no processes.
ALONE = "DISABLE_MULTIPROC"


@contextmanager
def hushed(quiet: bool = True) -> Iterator[None]:
    """No lines of the harness and of the hub, and no processes for a bootstrap, in a `with` block.

    Args:
        quiet: False lets them speak.
    """
    before, verbosity = os.environ.get(ALONE), hub.get_verbosity()
    # Whoever ran the harness's own command in this process has given its lines a place.
    logger = logging.getLogger("lm_eval")
    level = logger.level
    os.environ[ALONE] = "1"
    try:
        with ExitStack() as stack:
            if quiet:
                hub.set_verbosity(logging.ERROR)
                logger.setLevel(logging.ERROR)
                stack.enter_context(redirect_stdout(io.StringIO()))
                stack.enter_context(redirect_stderr(io.StringIO()))
            yield
    finally:
        hub.set_verbosity(verbosity)
        logger.setLevel(level)
        if before is None:
            del os.environ[ALONE]
        else:
            os.environ[ALONE] = before


__all__ = ["hushed"]
