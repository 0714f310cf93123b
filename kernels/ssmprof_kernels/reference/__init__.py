"""Every operation in plain torch: the oracle of the tests and the provider on a CPU.

Promises: per operation a sequential form that follows the recurrence token by token (fp64 capable),
and a fast form with the signature of the kernel.
"""
