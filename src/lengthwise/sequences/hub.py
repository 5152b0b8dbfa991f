"""Whether the hub has a repository, asked once and briefly.

Its client tries six times, for half a minute, where nobody answers, and whoever mistyped a name
waits for that.
"""

from __future__ import annotations

from typing import Literal

from lengthwise._utils.messages import first_line
from lengthwise.sequences.errors import SequenceError

_PATIENCE_S = 8.0


def require_repository(name: str, kind: Literal["model", "dataset"]) -> None:
    """Raises SequenceError where the hub cannot be asked or has no such repository.

    One that asks for a login first is there.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import GatedRepoError, HFValidationError, RepositoryNotFoundError

    try:
        HfApi().repo_info(name, repo_type=kind, timeout=_PATIENCE_S)
    except GatedRepoError:
        return
    except HFValidationError as error:
        raise SequenceError(f"{name!r} is no file, no folder and no name of the hub") from error
    except RepositoryNotFoundError as error:
        raise SequenceError(f"the hub has no {kind} {name!r}, or it is private") from error
    except Exception as error:  # whatever the client's transport raises
        raise SequenceError(
            f"there is no file or folder {name}, and the hub cannot be asked for a {kind} of that "
            f"name ({first_line(error)})"
        ) from error
