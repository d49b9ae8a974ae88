"""``python -m hyperverify`` is the command ``hyperverify``."""

from __future__ import annotations

import sys

from hyperverify.cli import main

if __name__ == "__main__":
    sys.exit(main())
