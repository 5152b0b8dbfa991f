"""`python -m lengthwise` and `torchrun -m lengthwise`: the console script under other names."""

from __future__ import annotations

from lengthwise.cli import main

if __name__ == "__main__":
    main()
