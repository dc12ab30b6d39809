"""RecSim NG on PyTorch: simulated users fitted to a log, and the worlds made of them."""
