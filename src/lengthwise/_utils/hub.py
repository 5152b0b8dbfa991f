"""Whether the hub has a repository, asked once and briefly.

Its client tries six times, for half a minute, where nobody answers, and whoever mistyped a name
waits for that.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from lengthwise._utils.messages import first_line

PATIENCE_S = 8.0


def absent(name: str, kind: Literal["model", "dataset"] = "model", fetched: bool = True) -> str:
    """Why a repository cannot be had; "" where it can.

    Args:
        name: as owner/name or name. One that asks for a login first is there.
        kind: of the repository.
        fetched: whether something of it that was fetched before will do, and nobody is asked then.

    Returns:
        A line for the user, as its end or as a whole.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import GatedRepoError, HFValidationError, RepositoryNotFoundError

    try:
        if not (fetched and _fetched(name, kind)):
            HfApi().repo_info(name, repo_type=kind, timeout=PATIENCE_S)
    except GatedRepoError:
        return ""
    except HFValidationError:
        return f"{name!r} is no file, no folder and no name of the hub"
    except RepositoryNotFoundError:
        return f"the hub has no {kind} {name!r}, or it is private"
    except Exception as error:  # whatever the client's transport raises
        return (
            f"there is no file or folder {name}, and the hub cannot be asked for a {kind} of that "
            f"name ({first_line(error)})"
        )
    return ""


def _fetched(name: str, kind: str) -> bool:
    from huggingface_hub.constants import HF_HUB_CACHE
    from huggingface_hub.file_download import repo_folder_name

    held = Path(HF_HUB_CACHE, repo_folder_name(repo_id=name, repo_type=kind), "snapshots")
    return held.is_dir() and any(held.iterdir())


__all__ = ["PATIENCE_S", "absent"]
