"""Who asks: a sweep put together from planning, measuring and keeping, for Python and for commands.

`run.sweep` and `run.resume` are the doors, `executors` say where the points are measured.
"""
