"""Speed, size and memory beside PyTorch's and JAX's.  ``python -m benchmarks`` runs everything; see ``--help``."""

# Family, as --only names it -> the module with its ``cases(family, options)``, timed in turns.
FAMILIES = {
    "step": "lenet",
    "inference": "lenet",
    "epoch": "epoch",
    "networks": "network_step",
    "conv": "convolution",
    "soumith": "convolution",
    "conv-kinds": "convolution",
    "tape": "tape",
    "optimizer": "optimizer",
    "loader": "loader",
}

# Family -> the module with its ``rows(options, kinds)``, which starts a process for every figure.
MEASURES = {"footprint": "footprint", "target": "time_to_accuracy", "mnist": "mnist_accuracy"}
