"""One point, measured in a process of its own."""
