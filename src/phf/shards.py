"""Alias of `phf.tokens.store`, kept for one release."""

from phf.tokens import DOCUMENT as DOCUMENT
from phf.tokens import HELD_OUT as HELD_OUT
from phf.tokens import SEGMENT as SEGMENT
from phf.tokens import TokenStore as TokenStore
from phf.tokens import View as View
from phf.tokens import write_shard as write_shard
