"""What the data sets of the benchmark share: LDS, FDS, losses, metrics and one engine."""
