"""``python -m rtos``."""

import sys

from rtos.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
