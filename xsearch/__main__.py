"""`python -m xsearch` is `xsearch`."""

from xsearch.cli import main

if __name__ == "__main__":
    main()
