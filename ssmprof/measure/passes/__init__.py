"""What is measured beside latency, each pass apart from the others."""
