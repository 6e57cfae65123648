"""Lets the tests of this folder import its helpers by name, whatever import mode pytest runs in."""

import sys
from pathlib import Path

HERE = Path(__file__).parent
if str(HERE) not in sys.path:
    sys.path.insert(0, str(HERE))
