"""From gradients to new weights: optimizers, EMA, loss scaling, the guard against bad steps."""
