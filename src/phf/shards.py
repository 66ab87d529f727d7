"""Alias of `phf.tokens.store`, kept for one release."""

from phf.tokens.store import DOCUMENT as DOCUMENT
from phf.tokens.store import HELD_OUT as HELD_OUT
from phf.tokens.store import SEGMENT as SEGMENT
from phf.tokens.store import TokenStore as TokenStore
from phf.tokens.store import View as View
from phf.tokens.store import write_shard as write_shard
