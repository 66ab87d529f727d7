"""A small token store read into memory, all shards end to end."""

import numpy as np


def tokens_of(store):
    """Return all tokens: (N,)."""
    return np.concatenate([shard.tokens.read() for shard in store.shards])


def starts_of(store):
    """Return where each segment's tokens begin, and the count of tokens: (S + 1,)."""
    starts = [shard.segments.read()["start"] + shard.first_token for shard in store.shards]
    return np.concatenate([*starts, [store.shards[-1].token_stop]]).astype(np.int64)


def rewards_of(store):
    """Return the rewards of all segments: (S,)."""
    return np.concatenate([shard.segments.read()["reward"] for shard in store.shards])


def first_segments_of(store):
    """Return each document's first segment, and the count of segments: (D + 1,)."""
    firsts = [shard.documents.read()["segment"] + shard.first_segment for shard in store.shards]
    return np.concatenate([*firsts, [store.shards[-1].segment_stop]]).astype(np.int64)
