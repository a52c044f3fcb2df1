"""The commands of `metabench`, one module each; cli.py loads them by name."""
