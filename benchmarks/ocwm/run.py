"""One cell: compose, refuse what can't work, say what will happen, run, record."""

from ocwm.context import Evaluation, RunContext

__all__ = ["Evaluation", "RunContext"]
