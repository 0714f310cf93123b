"""Norms over the last axis, and the one that a gate goes through."""
