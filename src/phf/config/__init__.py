"""Recipes: one YAML file that says corpus, objectives and evaluations. Read strictly, overridden by `key.sub=value`."""

from phf.config.json_schema import recipe_schema
from phf.config.recipe import Recipe, Run, check, dump, plain, read_recipe
from phf.config.sections import Annotate, Corpus, Evaluate, Init, Report, Strict, Tokenize, Train
from phf.config.shipped import find_recipe, shipped_recipes
from phf.config.values import COMPONENT, Component, Count, build
from phf.config.yaml import parse as parse_value
from phf.config.yaml import read_yaml, to_flow, to_yaml

__all__ = [
    "COMPONENT",
    "Annotate",
    "Component",
    "Corpus",
    "Count",
    "Evaluate",
    "Init",
    "Recipe",
    "Report",
    "Run",
    "Strict",
    "Tokenize",
    "Train",
    "build",
    "check",
    "dump",
    "find_recipe",
    "parse_value",
    "plain",
    "read_recipe",
    "read_yaml",
    "recipe_schema",
    "shipped_recipes",
    "to_flow",
    "to_yaml",
]
