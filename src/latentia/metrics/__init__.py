"""Numbers about a latent space."""

from latentia.metrics.geometry import scaled_pair_distances, uniformity

__all__ = ["scaled_pair_distances", "uniformity"]
