"""Speed and memory of the kit, each against a plain baseline measured beside it: `python -m benchmarks`."""
