"""Local venues that speak the real wire formats, for demos, tests and benchmarks."""
