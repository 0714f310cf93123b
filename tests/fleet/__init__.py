"""What a fleet must reach: `python -m fleet` without a GPU, `python -m fleet.gpus` with several.

kills    workers, scheduler and client are killed at random; nothing is lost or doubled
many     1,000 virtual devices: what the client takes per point
local    a sweep on this machine against one of a tree from before the session
gpus     one GPU against several of one host
"""
