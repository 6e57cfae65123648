"""The report page: records, figures and evidence in one HTML file that needs no server and asks nobody for anything."""

from ocwm.page.whole_page import LARGEST, build, write

__all__ = ["LARGEST", "build", "write"]
