"""Attention of one new token over a cache: `op.attention_decode`."""
