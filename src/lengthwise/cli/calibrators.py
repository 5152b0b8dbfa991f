"""What measures something of a model once: the entry points `lengthwise.calibrators`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lengthwise._utils.registry import Registry

if TYPE_CHECKING:
    from lengthwise.api.model import Model
    from lengthwise.cli.bars import Bar


@dataclass(frozen=True)
class Asked:
    """The options of `lengthwise calibrate` as they were given."""

    draft: str = "layers"
    temperature: float = 0.0
    out: Path | None = None
    force: bool = False
    skip: float = 0.2
    trials: int = 100
    codes: int = 4096
    position: int = 2048
    large: str = ""
    width: int = 128
    blocks: int = 2
    text: str = ""


@dataclass(frozen=True)
class Calibrator:
    """One thing that `lengthwise calibrate NAME` measures.

    run: measures it on a model and says what it found; it keeps or prints the result. options: of
    `Asked`, those that it uses; others are refused where they are given. writes: what the file is
    called that `--out` has to name; empty for one that writes none.
    """

    name: str
    run: Callable[[Model, Asked, Bar], None]
    options: tuple[str, ...] = ()
    writes: str = ""


def _check(name: str, found: object) -> Calibrator:
    if not isinstance(found, Calibrator):
        raise TypeError("it is no lengthwise.cli.calibrators.Calibrator")
    if found.name != name:
        raise ValueError(f"its calibrator is named {found.name!r}")
    return found


CALIBRATORS: Registry[Calibrator] = Registry("lengthwise.calibrators", "calibrator", _check)


__all__ = ["CALIBRATORS", "Asked", "Calibrator"]
