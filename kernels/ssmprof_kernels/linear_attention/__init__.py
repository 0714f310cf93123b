"""Linear attention with decay: over a prompt `op`, for one token `step`."""
