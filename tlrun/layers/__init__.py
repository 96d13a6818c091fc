"""Layers that strategies add to a model: gradient reversal, the domain discriminator."""
