"""Numbers about a latent space."""

from latentia.metrics.geometry import scaled_pair_distances, uniformity
from latentia.metrics.neighbors import nearest_neighbors

__all__ = ["nearest_neighbors", "scaled_pair_distances", "uniformity"]
