"""`python -m ssmprof`."""

from ssmprof.cli import main

if __name__ == "__main__":
    main()
