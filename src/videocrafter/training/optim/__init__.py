"""Weight updates: optimizers, EMA, loss scaling, and the guard against bad steps."""
