"""The speed scripts import each other by name, as they do when they are run."""

import sys
from pathlib import Path

SCRIPTS = Path(__file__).parents[2] / "benchmarks" / "speed"
if str(SCRIPTS) not in sys.path:
    sys.path.insert(0, str(SCRIPTS))
