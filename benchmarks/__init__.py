"""Measurements: python -m benchmarks.NAME."""

import xsearch  # noqa: F401  before torch: it asks libgomp for short waits
