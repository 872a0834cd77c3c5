"""Figures of the product, each a command: `python -m bench.NAME [--small]` writes bench/results/NAME.json."""
