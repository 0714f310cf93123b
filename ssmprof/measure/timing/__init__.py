"""How long a call takes: timers, samples, when to stop, and calls in turn."""
