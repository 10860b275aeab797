"""``python -m mpvit_cli``."""

import sys

from mpvit_cli.main import main

sys.exit(main())
