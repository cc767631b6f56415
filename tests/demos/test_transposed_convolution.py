import pytest
import torch
from torch.nn import functional as F

from demos import transposed_convolution as demo

ORIGINAL, SIZE = demo.transposed_convolution, demo.output_size


def _random(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("k", "s", "p", "a"), [(1, 1, 0, 0), (3, 2, 1, 1), (4, 2, 1, 0), (2, 4, 0, 3), (7, 3, 3, 2)])
@pytest.mark.parametrize("form", ["transposed_convolution", "convolution_over_zeros"])
def test_both_forms_agree_with_torch(form, k, s, p, a):
    y, w = _random(2, 3, 5, 6), _random(3, 4, k, k, seed=1)
    expected = F.conv_transpose2d(y, w, None, s, p, a)
    torch.testing.assert_close(getattr(demo, form)(y, w, s, p, a), expected)


@pytest.mark.parametrize(("k", "s", "p", "a"), [(3, 2, 1, 1), (5, 3, 2, 0), (1, 4, 0, 2)])
def test_the_matrix_is_that_of_a_convolution_along_a_line(k, s, p, a):
    w, n = _random(k), 6
    basis = torch.eye(demo.output_size(n, k, s, p, a), dtype=torch.float64)[:, None]
    columns = F.conv1d(basis, w[None, None], stride=s, padding=p)[:, 0]
    torch.testing.assert_close(demo.matrix(w, n, s, p, a), columns.T)


def test_it_is_the_gradient_of_the_convolution_in_its_input():
    x, w = _random(1, 2, 7, 7).requires_grad_(), _random(3, 2, 3, 3, seed=1)
    y = F.conv2d(x, w, stride=2, padding=1)
    pulled = _random(*y.shape, seed=2)
    (gradient,) = torch.autograd.grad((y * pulled).sum(), x)
    torch.testing.assert_close(demo.transposed_convolution(pulled, w, 2, 1), gradient)


def test_stamps_along_a_line_are_counted_as_by_hand():
    counts = demo.reaches(8, 3, 2, 0).sum(0)
    assert counts.tolist() == [1, 1] + [2, 1] * 7 + [1]
    assert counts[demo.interior(8, 3, 2)].tolist() == [1] + [2, 1] * 7


@pytest.mark.parametrize("kind", ["even", "tent", "random"])
def test_a_kernel_keeps_the_brightness_on_average(kind):
    w = demo.line_kernel(kind, 5, 3, torch.Generator().manual_seed(0))
    assert w.sum().item() == pytest.approx(3) and w.min() >= 0


def test_enlarging_repeats_each_pixel_before_it_convolves():
    y = _random(1, 1, 3, 4)
    expected = F.interpolate(y, scale_factor=2, mode="nearest")
    torch.testing.assert_close(demo.resize_then_convolve(y, torch.ones(1, 1, 1, 1, dtype=y.dtype), 2), expected)


def test_a_law_notices_every_mistake(laws_notice):
    convolution_over_zeros = demo.convolution_over_zeros
    laws_notice(
        {
            "a flipped kernel": (
                {"transposed_convolution": lambda y, w, *shape: ORIGINAL(y, w.flip(-1), *shape)},
                ["adjoint_of_the_convolution", "three_forms_agree"],
            ),
            "a kernel left unflipped": (
                {"convolution_over_zeros": lambda y, w, *shape: convolution_over_zeros(y, w.flip(-2, -1), *shape)},
                ["three_forms_agree"],
            ),
            "a size without its output padding": (
                {"output_size": lambda n, k, s, p, a=0: SIZE(n, k, s, p)},
                ["size_formula"],
            ),
            "stamps that overwrite instead of adding up": (
                {"transposed_convolution": lambda y, w, *shape: ORIGINAL(y, w, *shape).clamp(max=1)},
                ["overlap_is_uniform_if_the_stride_divides_the_kernel"],
            ),
            "zeros in place of repeated pixels": (
                {"resize_then_convolve": lambda y, w, s: ORIGINAL(y, w, s, 1, 1)[..., 2:-2, 2:-2]},
                ["resized_is_flat"],
            ),
            "another way back": (
                {"transposed_convolution": lambda y, w, *shape: F.interpolate(y, 6) + _random(1, 1, 6, 6)},
                ["not_an_inverse"],
            ),
        }
    )
