"""The attacks of `benchmarks.torture`, one class of them per file."""
