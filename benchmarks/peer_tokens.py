"""Prints the token ids that every engine reads, as JSON: {length: ids}."""

from __future__ import annotations

import json

import lengthwise
from benchmarks.figures import text_ids

if __name__ == "__main__":
    model = lengthwise.load()
    print(json.dumps({length: text_ids(model, length) for length in (256, 4096, 8192)}))
