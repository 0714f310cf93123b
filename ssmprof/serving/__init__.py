"""What a serving engine makes of a model: capacity, prefix reuse, service under load.

    engines.toml  rules.py      the engines' rules as data, with the release and files of origin
    layout.py                   recipe -> caches of every layer on one rank
    vllm.py  sglang.py          caches -> blocks and slots, by each engine's rules
    capacity.py                 how many sequences fit, and what is wasted
    requests.py  generator.py   traces of requests: read, or made from a few parameters
    reuse.py  policies.py       prefixes of a trace that a cache of given size would have held
    steps.py  simulator.py      measured step times -> times to the first and between tokens

No torch, no GPU: recipes, measured runs and traces in, numbers out.
"""
