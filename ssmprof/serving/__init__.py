"""What a serving engine makes of a model: capacity, prefix reuse, service under load.

    engines.toml  rules.py      the engines' rules as data, with the release and files of origin
    layout.py                   recipe -> caches of every layer on one rank
    vllm.py  sglang.py          caches -> blocks and slots, by each engine's rules
    capacity.py  padding.py     how many sequences fit, what is wasted, what a block leaves empty
    requests.py  generator.py   traces of requests: read, or made from a few parameters
    policies.py  marconi.py     caches of prefixes
    reuse.py                    what such a cache would have saved of a trace
    steps.py                    measured times of prefills and decode steps, and between them
    simulator.py  service.py    a server with such times, and what its users see

No torch, no GPU: recipes, measured runs and traces in, numbers out.
"""
