import torch
from sklearn.datasets import make_moons

from mtpkdot.teachers import GraphTeacher, LinearTeacher, Rows, Targets


def moons(seed: int) -> Rows:
    x, y = make_moons(300, noise=0.06, random_state=seed)
    return Rows.of({"face": torch.from_numpy(x).float()}, torch.from_numpy(y))


def test_few_labels_spread_along_a_shape_that_is_not_linear():
    rows, other = moons(0), moons(1)
    some = torch.zeros(300, dtype=torch.bool)
    for label in (0, 1):
        some[(rows.target == label).nonzero()[:5, 0]] = True
    known = Rows(rows.values, rows.present, rows.target, some, rows.people)
    right = {}
    for teacher in (GraphTeacher(["face"]), LinearTeacher(["face"])):
        teacher.fit("classification", known, Targets.of_labels("classification", known, 2), other)
        right[type(teacher)] = [float((teacher.output(x).argmax(1) == x.target).double().mean()) for x in (rows, other)]
    assert min(right[GraphTeacher]) > 0.97
    assert max(right[LinearTeacher]) < 0.93


def test_values_spread_as_means_of_labels():
    x = torch.linspace(0, 1, 50)[:, None]
    rows = Rows.of({"face": x}, 3 * x)
    teacher = GraphTeacher(["face"], neighbours=4)
    teacher.fit("regression", rows, Targets.of_labels("regression", rows, 1), rows)
    output = teacher.output(rows)
    assert output.min() >= 0
    assert output.max() <= 3
    assert torch.corrcoef(torch.cat([output.T, rows.target.T.double()]))[0, 1] > 0.98


def test_fewer_rows_than_neighbours_and_components_are_enough():
    rows = Rows.of({"face": torch.randn(3, 40)}, torch.tensor([0, 1, 1]))
    teacher = GraphTeacher(["face"])
    teacher.fit("classification", rows, Targets.of_labels("classification", rows, 2), rows)
    assert teacher.output(rows).isfinite().all()
