"""Softmax attention: multi-head, grouped-query, windowed, with a cache of keys and values."""
