"""Inspection of an annotated corpus: how rewards are distributed, and what a threshold would call aligned."""

from phf.inspection.render import plot, text
from phf.inspection.summary import Bin, Distribution, Example, Inspection, inspect

__all__ = ["Bin", "Distribution", "Example", "Inspection", "inspect", "plot", "text"]
