"""Graph teacher: labels spread over nearest neighbours of the training rows."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from sklearn.decomposition import PCA
from sklearn.neighbors import NearestNeighbors
from torch import Tensor

from mtpkdot.losses.propagation import graph_of, spread
from mtpkdot.losses.task import Task
from mtpkdot.teachers.calibration import held_out_score
from mtpkdot.teachers.member import Member, Targets
from mtpkdot.teachers.rows import Rows, Scaling


class GraphTeacher(Member):
    """Label spreading (Zhou et al., NIPS 2003) over the training rows, extended to other rows by their neighbours.

    The features of each modality are centred and divided by one number, so that modalities count equally and their
    features as they vary; their principal components span the graph. How far labels spread is chosen by the likelihood
    on held-out people.

    Args:
        modalities: modalities that it reads.
        components: largest number of principal components.
        neighbours: number of neighbours of a row.
        alphas: how far labels spread, in (0, 1), to choose from.
    """

    def __init__(
        self,
        modalities: Sequence[str],
        components: int = 30,
        neighbours: int = 8,
        alphas: Sequence[float] = (0.5, 0.8, 0.9, 0.95, 0.99),
    ) -> None:
        super().__init__(modalities)
        self.components, self.neighbours, self.alphas = components, neighbours, alphas

    def fit(self, task: Task, training: Rows, targets: Targets, held_out: Rows) -> Tensor:
        """Spread the labels of the training rows; see Member."""
        scaling = Scaling.fit(training, self.modalities, block=True)
        seen = training.seen(self.modalities)
        x = scaling(training.keep(seen)).numpy()
        reduction = PCA(min(self.components, *x.shape), random_state=0).fit(x)
        points = reduction.transform(x).astype(np.float32)
        self.state = {
            "points": torch.from_numpy(points),
            "centre": torch.from_numpy(reduction.mean_),
            "axes": torch.from_numpy(reduction.components_),
        }
        for name in self.modalities:
            self.state |= {f"mean.{name}": scaling.mean[name], f"scale.{name}": scaling.scale[name]}
        y, labelled = targets.columns[seen].numpy(), (targets.weight[seen] > 0).numpy()
        near = self._nearest(points, self.neighbours + 1)
        graph = graph_of(near.numpy())
        judged = held_out.keep(held_out.seen(self.modalities))
        of_judged = self._near(judged)
        best = -np.inf
        for alpha in self.alphas:
            answers = _outputs(task, torch.from_numpy(spread(graph, y, labelled, alpha)))
            score = held_out_score(task, answers[of_judged].mean(dim=1), judged.target) if len(judged) else 0.0
            if score > best:
                best, self.state["answers"] = score, answers.float()
        own = self.state["answers"][near[:, : self.neighbours]].double().mean(dim=1)
        return own.new_zeros(len(training), own.shape[1]).index_copy(0, seen.nonzero()[:, 0], own)

    def output(self, rows: Rows) -> Tensor:
        """Return the mean answer (N, K) of the nearest training rows, itself among them for a training row."""
        return self.state["answers"][self._near(rows)].double().mean(dim=1)

    def _near(self, rows: Rows) -> Tensor:
        """Return the positions (N, neighbours) of the nearest training rows."""
        scaling = Scaling(*({n: self.state[f"{part}.{n}"] for n in self.modalities} for part in ("mean", "scale")))
        x = (scaling(rows) - self.state["centre"]) @ self.state["axes"].T
        return self._nearest(x.float().numpy(), self.neighbours)

    def _nearest(self, x: npt.NDArray[np.float32], count: int) -> Tensor:
        """Return the positions of the `count` training points that are nearest to each of x (N, D)."""
        points = self.state["points"].numpy()
        count = min(count, len(points))
        if not len(x):
            return torch.zeros(0, count, dtype=torch.int64)
        search = NearestNeighbors(n_neighbors=count).fit(points)
        return torch.from_numpy(search.kneighbors(x, return_distance=False))


def _outputs(task: Task, answers: Tensor) -> Tensor:
    """Return outputs for spread probabilities or values (N, K)."""
    if task == "regression":
        return answers
    return answers.logit(eps=1e-3) if task == "ordinal" else answers.clamp_min(1e-3).log()
