"""Speed, size and memory beside PyTorch's.  ``python -m benchmarks`` runs everything; see ``--help``."""
