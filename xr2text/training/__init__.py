"""The training loop and what it keeps of a run."""
