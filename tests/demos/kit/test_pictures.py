import pytest
import torch

from demos.kit.pictures import DROPPED, mosaic, outline, pictures


def _image(seed=0):
    return torch.rand(3, 4, 6, generator=torch.Generator().manual_seed(seed))


def test_a_picture_is_shown_pixel_by_pixel():
    (trace,) = pictures([_image()]).data
    expected = (255 * _image()).round().to(torch.uint8)
    assert all(
        trace.z[row, column, c] == expected[c, row, column] for row in range(4) for column in range(6) for c in range(3)
    )
    assert (trace.x0, trace.y0) == (0, 0)


def test_a_gray_picture_is_shown_in_gray():
    (trace,) = pictures([_image()[:1]]).data
    assert trace.z.shape == (4, 6, 3) and (trace.z == trace.z[..., :1]).all()


def test_pictures_stand_in_rows_without_overlap():
    *traces, names = pictures([_image(seed) for seed in range(5)], names=list("abcde"), columns=2).data
    places = [(trace.x0, trace.y0) for trace in traces]
    assert [trace.name for trace in traces] == list("abcde")
    for number, (x, y) in enumerate(places):
        for other_x, other_y in places[:number]:
            assert abs(x - other_x) >= 6 or abs(y - other_y) >= 4
    assert places[0][1] == places[1][1] and places[0][0] == places[2][0] == places[4][0]
    assert list(names.text) == list("abcde")
    for (x, y), below, down in zip(places, names.x, names.y, strict=True):
        assert below == x + 2.5 and y + 3.5 < down < y + 4


def test_a_figure_is_no_higher_than_its_pictures_fill():
    one = pictures([_image()])
    assert one.layout.meta["aspect"] == 4 / 6
    six = pictures([_image(seed) for seed in range(6)], columns=3)
    x, y = (max(getattr(trace, side) for trace in six.data) for side in ("x0", "y0"))
    assert six.layout.meta["aspect"] == pytest.approx((y + 4) / (x + 6))


def test_an_outline_runs_around_its_pixels():
    fig = outline(pictures([_image()]), 1, 0, 3, 2, name="box", color="#000000", dash="dash")
    line = fig.data[-1]
    assert (min(line.x), max(line.x), min(line.y), max(line.y)) == (0.5, 2.5, -0.5, 1.5)
    assert line.x[0] == line.x[-1] and line.y[0] == line.y[-1] and line.name == "box"


def test_a_mosaic_shows_every_map_in_gray_and_what_is_not_kept_in_orange():
    maps = torch.rand(3, 4, 5, generator=torch.Generator().manual_seed(0))
    kept = maps > 0.3
    picture = mosaic(maps, kept)
    assert picture.shape == (3, 9, 11)
    for number in range(3):
        for row in range(4):
            for column in range(5):
                pixel = picture[:, number // 2 * 5 + row, number % 2 * 6 + column]
                gray = maps[number, row, column].sqrt().expand(3)
                expected = gray if kept[number, row, column] else torch.tensor(DROPPED)
                torch.testing.assert_close(pixel, expected)
