"""The parts of benchmarks/train.py."""

OBJECTIVES = {
    "MLE": {},
    "Filtering": {"threshold": -0.5},
    "Conditional": {"threshold": -0.5},
    "Unlikelihood": {"threshold": -0.5},
    "RWR": {"beta": 1.0},
    "AWR": {"alpha": 0.5, "beta": 1.0},
}
