"""A run: the engine, the regressor, draws, evaluation, checkpoints, and the run directory."""
