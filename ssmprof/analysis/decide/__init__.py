"""What follows: choices, projections, differences between runs, claims, advice, trust."""
