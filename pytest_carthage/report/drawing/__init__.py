"""Drawings of a plan: for a terminal, as Mermaid, as SVG. Pure functions from plan to text."""

from __future__ import annotations

from pytest_carthage.report.drawing.chart import mermaid
from pytest_carthage.report.drawing.picture import svg
from pytest_carthage.report.drawing.tree import text

__all__ = ["mermaid", "svg", "text"]
