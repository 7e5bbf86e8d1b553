"""`python -m lenvm` is `lenvm`."""

from __future__ import annotations

import sys

from lenvm.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
