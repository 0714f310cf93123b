"""What documents say of committed runs and tables, read from them: no number is typed.

markdown   tables, and parts of a page between markers
runs       the runs below reports/, each analysed once, as `ssmprof crossover` does
index      reports/README.md
systems    the cast: every kind of model, and how it is asked for
cast       where each of them was measured, and its zone against attention of its size
why        why a system was not measured
parts      what stands between markers in README and docs
"""
