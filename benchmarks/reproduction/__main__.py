"""The one command of all checks: see harness.py."""

import sys

from benchmarks.reproduction.harness import main

sys.exit(main(sys.argv[1:]))
