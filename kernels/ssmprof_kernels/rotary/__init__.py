"""Rotary embedding and the write into a cache: `op.rotary`."""
