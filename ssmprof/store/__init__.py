"""Runs on disk: kept before the next point can fail, and never overwritten."""
