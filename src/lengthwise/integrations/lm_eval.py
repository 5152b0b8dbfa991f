"""`lengthwise` as a model of lm-evaluation-harness.

    lengthwise-lm-eval run --model lengthwise --tasks arc_easy \\
        --model_args 'recipe="snapkv(budget=25%)",pretrained=FOLDER'

`lengthwise-lm-eval` is the harness's own `lm_eval` with this model in its registry, with all its
options. The harness (0.4.13) looks for models in no group of entry points and imports nothing of
others before it makes one, so its own command cannot find a model of another package. In Python
importing this module is enough: `lm_eval.simple_evaluate("lengthwise", ...)` knows it then.

What model_args may hold, and how requests are answered, is in `evaluation.harness.model`.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec

from lengthwise.errors import LengthwiseError

NAME = "lengthwise"


def register() -> None:
    """Adds the model to the harness's registry; again is no harm.

    Raises:
        LengthwiseError: where the harness is not installed.
    """
    if find_spec("lm_eval") is None:
        raise LengthwiseError(
            "lm-evaluation-harness is not installed: pip install 'lengthwise[evaluation]'"
        )
    # Its own models register themselves here only where the registry is empty when one is asked
    # for, and with ours in it, it is not.
    import lm_eval.models
    from lm_eval.api.registry import register_model

    from lengthwise.evaluation.harness.model import LengthwiseLM

    assert lm_eval.models.MODEL_MAPPING
    register_model(NAME)(LengthwiseLM)


def main() -> None:
    """The console script `lengthwise-lm-eval`."""
    try:
        register()
        from lm_eval.__main__ import cli_evaluate

        cli_evaluate()
    except LengthwiseError as error:
        sys.exit(f"lengthwise: {error}")


if find_spec("lm_eval") is not None:
    register()

if __name__ == "__main__":
    main()

__all__ = ["NAME", "main", "register"]
