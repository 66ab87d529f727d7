"""A look at an annotated corpus, and at what a threshold would call aligned: `phf inspect`."""

from phf.inspection.numbers import Bin, Distribution, Example, Inspection, inspect
from phf.inspection.shown import draw, text

__all__ = ["Bin", "Distribution", "Example", "Inspection", "draw", "inspect", "text"]
