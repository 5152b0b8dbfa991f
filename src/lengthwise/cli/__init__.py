"""The command line: one file a verb.

    arguments --main, the file of the verb--> checked before any work --> a call of another room
              --> tables, text or JSON on standard output; bars on standard error

Errors of the user's are one line and exit status 2.
"""

from __future__ import annotations

import sys

try:
    from lengthwise.cli.main import main
except KeyboardInterrupt:
    # Ctrl-C is the user's from the first import on, not a traceback of ours.
    sys.stderr.write("\nlengthwise: interrupted\n")
    raise SystemExit(130) from None

__all__ = ["main"]
