"""The command line: one file a verb. Errors of the user's are one line and exit status 2.

    main --> run, compare, bench, check, methods, ...    a verb is imported when it is called
               |
           arguments, documents, bars                    what verbs share

A verb reads its arguments, calls the same functions as a user of Python, and prints.
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
