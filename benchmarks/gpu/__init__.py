"""What xsearch does on a GPU: whether it is right there, and how fast. See `benchmarks.gpu.__main__`."""
