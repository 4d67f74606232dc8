"""Label propagation (Zhou et al., NIPS 2003)."""

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array, diags_array, eye_array
from scipy.sparse.linalg import cg
from sklearn.neighbors import kneighbors_graph

Array = npt.NDArray[np.float64]


def spread_labels(
    features: Array, targets: Array, labelled: npt.NDArray[np.bool_], neighbours: int, alpha: float
) -> Array:
    """Spread labels over a graph of nearest neighbours by cosine similarity, see `spread`.

    Args:
        features: (n, D) features.
        targets: (n, C) one-hot classes, passed thresholds, or values; rows without a label are ignored.
        labelled: (n,) bool.
        neighbours: number of neighbours of each sample.
        alpha: how far labels spread, in (0, 1).

    Returns:
        (n, C) weighted means of the labels; the mean of all labels for samples that none reaches.
    """
    unit = features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
    graph = kneighbors_graph(unit, min(neighbours, len(unit) - 1), mode="connectivity")
    return spread(graph, targets, labelled, alpha)


def spread(graph: Any, targets: Array, labelled: npt.NDArray[np.bool_], alpha: float) -> Array:
    """Spread labels over the symmetric closure of a graph, `F = (I - alpha S)^-1 Y`.

    The result is divided by that of the indicator of labelled rows, which makes it a weighted mean of labels.

    Args:
        graph: (n, n) sparse, 1 where the column is a neighbour of the row.
        targets: as for `spread_labels`.
        labelled: (n,) bool.
        alpha: how far labels spread, in (0, 1).

    Returns:
        As `spread_labels`.
    """
    graph = graph.maximum(graph.T)
    degree = np.asarray(graph.sum(axis=1)).ravel()
    scale = diags_array(1 / np.sqrt(np.maximum(degree, 1)))
    system = eye_array(len(targets)) - alpha * (scale @ graph @ scale)
    known = np.where(labelled[:, None], targets, 0.0)
    start = np.concatenate([known, labelled[:, None].astype(float)], axis=1)
    solved = np.stack([cg(system, column, rtol=1e-8)[0] for column in start.T], axis=1)
    reached = solved[:, -1:] > 1e-10
    return np.where(reached, solved[:, :-1] / np.where(reached, solved[:, -1:], 1.0), targets[labelled].mean(axis=0))


def graph_of(neighbours: npt.NDArray[np.int64]) -> Any:
    """Return the sparse graph (n, n) of the positions (n, k) of each row's neighbours; a row is none of its own.

    Args:
        neighbours: positions; a row may be among its own, and then is left out.
    """
    count, size = neighbours.shape
    rows = np.repeat(np.arange(count), size)
    other = neighbours.ravel() != rows
    columns = neighbours.ravel()[other]
    return csr_array((np.ones(len(columns)), (rows[other], columns)), shape=(count, count))
