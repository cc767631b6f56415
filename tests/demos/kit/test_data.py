import torch
from scipy import ndimage
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


def test_edge_maps_answer_to_opposite_edges_at_different_places():
    maps = data.edge_maps("china", 48)
    assert maps.shape == (4, 48, 48) and maps.min() >= 0
    torch.testing.assert_close(maps.amax((1, 2)), torch.ones(4))
    sobel = ndimage.sobel(data.photograph("china")[:, :, 40:200].mean(0).numpy(), axis=1)[1:-1, 1:-1]
    finest = data.edge_maps("china", 158)
    rising = torch.from_numpy(sobel).clamp(min=0)
    falling = torch.from_numpy(-sobel).clamp(min=0)
    torch.testing.assert_close(finest[0], rising / rising.max(), atol=1e-5, rtol=0)
    torch.testing.assert_close(finest[2], falling / falling.max(), atol=1e-5, rtol=0)


def test_the_noiseless_moons_are_half_circles():
    points, labels = data.two_moons(200, noise=0.0, generator=torch.Generator().manual_seed(0))
    centers = torch.tensor([[0.0, 0.0], [1.0, 0.5]])[labels]
    torch.testing.assert_close((points - centers).norm(dim=1), torch.ones(200))
    assert labels.sum() == 100
