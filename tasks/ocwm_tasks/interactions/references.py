"""Floors and ceilings of the question who influences whom."""

from __future__ import annotations

from typing import ClassVar

from ocwm.interfaces import Privilege
from ocwm_tasks.clevrer.references import NoRollout


class Proximity(NoRollout):
    """Objects that come near each other on straight lines influence each other: what needs no model of interactions."""

    version: ClassVar[int] = 1


class Resimulated(NoRollout):
    """The simulator without the object, read through the encoder and the probe: the ceiling."""

    version: ClassVar[int] = 1
    privileged: ClassVar[Privilege] = "simulator"
