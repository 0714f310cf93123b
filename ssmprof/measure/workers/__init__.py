"""Processes that measure: launched, asked, watched and buried; what they say to each other."""
