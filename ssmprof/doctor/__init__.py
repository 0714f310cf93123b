"""Is this machine fit to measure, and how true are its numbers?"""
