"""The supervised loop: optimiser, checkpoints, logs; it knows neither presets nor simulators."""
