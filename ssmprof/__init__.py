"""ssmprof: where a state-space model starts to beat attention on a GPU, and why."""
