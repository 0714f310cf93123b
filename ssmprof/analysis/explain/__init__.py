"""Why: shares of kernel families, launches, ceilings, memory and energy of what was measured."""
