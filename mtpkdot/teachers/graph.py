"""Graph teacher: labels spread over nearest neighbours of the training rows."""

from collections.abc import Sequence

import numpy as np
import torch
from sklearn.decomposition import PCA
from sklearn.neighbors import NearestNeighbors
from torch import Tensor

from mtpkdot.losses.propagation import spread_labels
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

    def fit(self, task: Task, training: Rows, targets: Targets, held_out: Rows) -> None:
        """Spread the labels of the training rows; see Member."""
        scaling = Scaling.fit(training, self.modalities, block=True)
        seen = training.seen(self.modalities)
        x = scaling(training.keep(seen)).numpy()
        reduction = PCA(min(self.components, *x.shape), random_state=0).fit(x)
        points = reduction.transform(x)
        self.state = {
            "points": torch.from_numpy(points).float(),
            "centre": torch.from_numpy(reduction.mean_),
            "axes": torch.from_numpy(reduction.components_),
        }
        for name in self.modalities:
            self.state |= {f"mean.{name}": scaling.mean[name], f"scale.{name}": scaling.scale[name]}
        y, labelled = targets.columns[seen].numpy(), (targets.weight[seen] > 0).numpy()
        judged = held_out.keep(held_out.seen(self.modalities))
        near = self._near(judged)
        best = -np.inf
        for alpha in self.alphas:
            spread = spread_labels(points, y, labelled, neighbours=self.neighbours, alpha=alpha, unit=False)
            answers = _outputs(task, torch.from_numpy(np.asarray(spread)))
            score = held_out_score(task, answers[near].mean(dim=1), judged.target) if len(judged) else 0.0
            if score > best:
                best, self.state["answers"] = score, answers.float()

    def output(self, rows: Rows) -> Tensor:
        """Return the mean answer (N, K) of the nearest training rows, itself among them for a training row."""
        return self.state["answers"][self._near(rows)].double().mean(dim=1)

    def _near(self, rows: Rows) -> Tensor:
        """Return the positions (N, neighbours) of the nearest training rows."""
        scaling = Scaling(*({n: self.state[f"{part}.{n}"] for n in self.modalities} for part in ("mean", "scale")))
        points = self.state["points"].numpy()
        if not len(rows):
            return torch.zeros(0, min(self.neighbours, len(points)), dtype=torch.int64)
        x = (scaling(rows) - self.state["centre"]) @ self.state["axes"].T
        search = NearestNeighbors(n_neighbors=min(self.neighbours, len(points))).fit(points)
        return torch.from_numpy(search.kneighbors(x.float().numpy(), return_distance=False))


def _outputs(task: Task, answers: Tensor) -> Tensor:
    """Return outputs for spread probabilities or values (N, K)."""
    if task == "regression":
        return answers
    return answers.logit(eps=1e-3) if task == "ordinal" else answers.clamp_min(1e-3).log()
