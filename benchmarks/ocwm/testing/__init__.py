"""Conformance suites for plugin authors: does a method or an encoder keep the promises of its interface?"""

from ocwm.testing.checks import Check
from ocwm.testing.encoders import check_encoder
from ocwm.testing.methods import check_method

__all__ = ["Check", "check_encoder", "check_method"]
