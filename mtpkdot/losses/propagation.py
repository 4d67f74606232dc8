"""Label propagation (Zhou et al., NIPS 2003): a control without a privileged modality."""

import numpy as np
import numpy.typing as npt
from scipy.sparse import diags_array, eye_array
from scipy.sparse.linalg import cg
from sklearn.neighbors import kneighbors_graph

Array = npt.NDArray[np.float64]


def spread_labels(
    features: Array,
    targets: Array,
    labelled: npt.NDArray[np.bool_],
    neighbours: int,
    alpha: float,
    unit: bool = True,
) -> Array:
    """Spread labels over a symmetric graph of nearest neighbours, `F = (I - alpha S)^-1 Y`.

    The result is divided by that of the indicator of labelled rows, which makes it a weighted mean of labels.

    Args:
        features: (n, D) features.
        targets: (n, C) one-hot classes, passed thresholds, or values; rows without a label are ignored.
        labelled: (n,) bool.
        neighbours: number of neighbours of each sample.
        alpha: how far labels spread, in (0, 1).
        unit: compare features by their cosine similarity; otherwise by their distance.

    Returns:
        (n, C) weighted means of the labels; the mean of all labels for samples that none reaches.
    """
    points = features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12) if unit else features
    graph = kneighbors_graph(points, min(neighbours, len(points) - 1), mode="connectivity")
    graph = graph.maximum(graph.T)
    degree = np.asarray(graph.sum(axis=1)).ravel()
    scale = diags_array(1 / np.sqrt(np.maximum(degree, 1)))
    system = eye_array(len(points)) - alpha * (scale @ graph @ scale)
    known = np.where(labelled[:, None], targets, 0.0)
    start = np.concatenate([known, labelled[:, None].astype(float)], axis=1)
    spread = np.stack([cg(system, column, rtol=1e-8)[0] for column in start.T], axis=1)
    reached = spread[:, -1:] > 1e-10
    return np.where(reached, spread[:, :-1] / np.where(reached, spread[:, -1:], 1.0), targets[labelled].mean(axis=0))
