"""Lets the modules of this folder import each other by name, whatever import mode pytest runs in."""

import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
if str(HERE) not in sys.path:
    sys.path.insert(0, str(HERE))
pytest.register_assert_rewrite("golden", *(path.stem for path in HERE.glob("checks_*.py")))
