"""A look at an annotated corpus, and at what a threshold would call aligned: `phf inspect`."""

from phf.inspection.render import draw, text
from phf.inspection.summary import Bin, Distribution, Example, Inspection, inspect

__all__ = ["Bin", "Distribution", "Example", "Inspection", "draw", "inspect", "text"]
