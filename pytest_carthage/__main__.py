"""The command ``pytest-carthage``, as ``python -m pytest_carthage``."""

import sys

from pytest_carthage.cli import main

if __name__ == "__main__":
    sys.exit(main())
