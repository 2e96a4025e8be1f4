"""Where Calls go: spans, metrics, the ledger. Each knows the Call and the outside, nothing else."""
