"""What to measure: scenarios, model presets, feasibility, and the jobs they expand to."""
