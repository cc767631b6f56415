import torch
from sklearn import datasets

from demos.kit import data


def test_digits_are_scikit_learns():
    images, labels = data.digits()
    theirs = datasets.load_digits()
    torch.testing.assert_close(images[:, 0] * 16, torch.from_numpy(theirs.images).float())
    assert labels.tolist() == theirs.target.tolist()


def test_the_split_holds_out_each_image_once():
    train, _, test, _ = data.digits_split(300, seed=1)
    assert (len(train), len(test)) == (1497, 300)
    together = torch.cat([train, test]).flatten(1).sum(1).sort().values
    torch.testing.assert_close(together, data.digits()[0].flatten(1).sum(1).sort().values)


def test_photographs_keep_their_proportions():
    assert data.photograph("china", 120).shape == (3, 80, 120)
    assert 0 <= data.photograph("flower", 64).min() < data.photograph("flower", 64).max() <= 1


def test_the_noiseless_moons_are_half_circles():
    points, labels = data.two_moons(200, noise=0.0, generator=torch.Generator().manual_seed(0))
    centers = torch.tensor([[0.0, 0.0], [1.0, 0.5]])[labels]
    torch.testing.assert_close((points - centers).norm(dim=1), torch.ones(200))
    assert labels.sum() == 100
