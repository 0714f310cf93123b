"""Dense feed-forward sub-layer."""
