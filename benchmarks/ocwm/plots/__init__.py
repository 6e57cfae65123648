"""Figures of run records, for papers and the README: `make` writes them, the other modules draw one kind each."""

from ocwm.plots.make import KINDS, draw_figures, make_figures

__all__ = ["KINDS", "draw_figures", "make_figures"]
