"""Jetson boards: what they are, what they draw, how they are clocked, what still fits.

Nothing here needs root, sets anything or runs `sudo`. Every reader takes a `Sysfs`, so a captured
tree replays on any machine; a value that cannot be read is None with a reason.
"""
