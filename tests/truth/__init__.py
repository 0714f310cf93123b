"""How true the answers are: sweeps that decide, held against dense references of the same device.

items     what is measured, one run folder each: references, sweeps, pairs of equal blocks
score     quantities and bars from those folders, nothing measured
__main__  `make truth`: measures what is missing, in the time it is given, and writes truth.json
"""
