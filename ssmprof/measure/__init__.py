"""One point, measured in a process of its own (docs/how-it-works/timing.md)."""
