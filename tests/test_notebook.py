"""What tensors, models, images and curves look like in Python and in a notebook."""

import base64
import io
import re

import numpy as np
import pytest

import minunet as mn
import minunet.functional as F
from minunet.data import cells
from minunet.display import objects as display
from minunet.training.history import History

IMAGE, LABELS = (stack[0] for stack in cells(1, size=32, seed=0))


def pictures(html):
    """The pictures in HTML as arrays, read by Pillow."""
    pillow = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
    found = re.findall(r"src='data:image/png;base64,([^']*)'", html)
    return [np.array(pillow.open(io.BytesIO(base64.b64decode(data)))) for data in found]


# ------------------------------------------------------------------------------------------ tensors


def test_a_small_tensor_shows_its_values():
    assert repr(mn.Tensor([1.0, 2.5])) == "Tensor([1.  2.5], float32)"
    assert repr(mn.Tensor(np.eye(2)) * 1.0) == "Tensor([[1. 0.]\n        [0. 1.]], float64)"
    assert repr(mn.Tensor(np.arange(3))) == "Tensor([0 1 2], int64)"


def test_a_large_tensor_shows_shape_range_and_origin():
    x = mn.Tensor(np.linspace(-1, 3, 1000).reshape(1, 10, 10, 10), requires_grad=True)
    assert repr(x) == "Tensor(1 x 10 x 10 x 10 float64, requires_grad=True: -1 to 3, mean 1)"
    assert repr(F.relu(x)) == "Tensor(1 x 10 x 10 x 10 float64, from relu: 0 to 3, mean 1.125)"


@pytest.mark.parametrize(
    "values, words",
    [
        (np.full(100, np.nan), "no finite value, 100 not finite"),
        (np.r_[np.ones(99), np.inf], "1 to 1, mean 1, 1 not finite"),
        (np.zeros((2, 0, 3)), "empty"),
        (np.ones(100, bool), "1 to 1, mean 1"),
    ],
)
def test_odd_tensors_have_a_text(values, words):
    with np.errstate(all="raise"):
        assert words in repr(mn.Tensor(values))


def test_a_tensor_is_a_picture_a_map():
    maps = np.zeros((1, 2, 4, 5))
    maps[0, 0, 1, 2], maps[0, 1, 3, 4] = 2.0, -1.0
    html = mn.Tensor(maps)._repr_html_()
    one, two = pictures(html)
    white, red = [255, 255, 255], [178, 24, 43]
    assert one.shape == (4, 5, 3) and one[1, 2].tolist() == red and one[0, 0].tolist() == white
    half_blue = np.mean([white, [33, 102, 172]], axis=0)  # one scale for both maps: -1 is half as strong as 2
    assert np.abs(two[3, 4] - half_blue).max() <= 1
    assert ">0, 0</figcaption>" in html and ">0, 1</figcaption>" in html


def test_values_of_one_sign_are_grey_and_the_rest_is_green():
    (picture,) = pictures(mn.Tensor(np.array([[1.0, 2, 3], [3, 2, np.nan], [1, 1, 1]]))._repr_html_())
    assert picture[0].tolist() == [[0] * 3, [128] * 3, [255] * 3]
    assert picture[1, 2].tolist() == [0, 200, 0]


def test_a_map_without_a_finite_value_is_green():
    (picture,) = pictures(mn.Tensor(np.full((3, 3), np.inf))._repr_html_())
    assert (picture == np.array([0, 200, 0])).all()


def test_a_tensor_of_many_maps_shows_some_and_says_so():
    html = mn.Tensor(np.ones((16, 4, 3, 3)))._repr_html_()
    assert html.count("<img") == display.MOST_MAPS and f"the first {display.MOST_MAPS} of 64 maps" in html


def test_what_is_no_picture_is_text():
    for array in (np.float32(3), np.ones(5), np.ones((3, 2)), np.ones((0, 8, 8))):
        assert "<img" not in mn.Tensor(array)._repr_html_()


def test_png_is_read_by_others():
    rng = np.random.default_rng(0)
    for size in ((1, 1), (7, 3), (40, 65)):
        rgb = rng.integers(0, 256, (*size, 3)).astype(np.uint8)
        (picture,) = pictures(display.picture_html(rgb))
        np.testing.assert_array_equal(picture, rgb)


def test_large_pictures_are_thinned_and_small_ones_enlarged():
    large = np.zeros((3 * display.LARGEST, 700, 3), np.uint8)
    (picture,) = pictures(display.picture_html(large))
    assert picture.shape == (display.LARGEST, 234, 3)
    assert "width='210'" in display.picture_html(np.zeros((30, 35, 3), np.uint8), side=200)  # six times as large


# ----------------------------------------------------------------------------------- modules, models


def test_a_module_lists_what_it_owns():
    model = mn.UNet(1, 2, (4,), padding="same", norm="batch")
    assert repr(model.final_conv) == "Conv2d(weight 2 x 4 x 1 x 1, bias 2, padding 0)"
    lines = repr(model.downs).splitlines()
    assert lines[0] == "ModuleList()" and lines[1] == "  (0): DoubleConv()"
    assert lines[3] == "      (0): Conv2d(weight 4 x 1 x 3 x 3, padding 1)"


def test_a_model_is_a_table_of_its_layers():
    model = mn.UNet(3, 2, (4, 8), padding="valid")
    html = model._repr_html_()
    assert "<table" in html and "downs.0.conv.0" in html and "final_conv" in html
    total = sum(p.data.size for p in model.parameters())
    assert f">{total:,}</td>" in html


# ---------------------------------------------------------------------------------------------- show


def test_show_draws_image_mask_prediction_and_mistakes():
    truth = (LABELS > 0).astype(np.uint8)
    wrong = truth.copy()
    wrong[:5] = 1 - truth[:5]
    view = mn.show(IMAGE, 255 * truth, wrong)
    image, mask, prediction, mistakes = pictures(view._repr_html_())
    assert image.shape == mask.shape == prediction.shape == (32, 32, 3)
    colored = np.ptp(mistakes.astype(int), axis=2) > 0
    assert colored[:5].all() and not colored[5:].any()
    np.testing.assert_array_equal(mask[7:], prediction[7:])  # row 5 is outline, row 6 is beside it
    assert repr(view).startswith("<image, mask, prediction, mistakes, 32 x 32 px: ")


def test_show_takes_what_predict_gives():
    model = mn.UNet(1, 2, (2,), padding="same")
    views = [mn.show(mn.Tensor(IMAGE), LABELS, p) for p in (mn.predict(model, IMAGE),)]
    assert len(pictures(views[0].html)) == 4
    p = np.zeros((3, 32, 32), np.float32)
    p[2] = 1
    mask = np.full((32, 32), 2)
    mistakes = pictures(mn.show(IMAGE, mask, p).html)[3]
    assert (np.ptp(mistakes.astype(int), axis=2) == 0).all()


def test_show_of_colour_images_and_colour_masks():
    color = np.stack([IMAGE, IMAGE // 2, IMAGE // 3], axis=-1)
    image, mask = pictures(mn.show(color, color[::-1]).html)
    np.testing.assert_array_equal(image, color)
    np.testing.assert_array_equal(mask, color[::-1])


def test_show_refuses_another_size():
    with pytest.raises(ValueError, match=r"a mask of shape \(9, 9\) for an image of 32 x 32 px"):
        mn.show(IMAGE, np.zeros((9, 9), np.uint8))
    with pytest.raises(ValueError, match="a prediction of shape"):
        mn.show(IMAGE, prediction=np.zeros((2, 9, 9), np.float32))


def test_a_view_is_saved_as_a_page(tmp_path):
    view = mn.show(IMAGE)
    view.save(tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert page.startswith("<!doctype html>") and view.html in page


# ---------------------------------------------------------------------------------------------- curves


def history(*records):
    return History(steps=10, records=[{"steps": 10, **record} for record in records])


def test_curves_of_a_training():
    html = mn.show(
        history(
            {"step": 0, "score": 0.1, "validation_loss": 2.0},
            {"step": 5, "loss": 1.0},
            {"step": 10, "loss": float("nan"), "score": 0.8, "validation_loss": 0.5},
        )
    ).html
    assert html.count("<svg") == 2 and "nan" not in html
    assert html.count("<circle") == 1 + 2 + 2  # points of loss, validation loss and score
    tops = [float(y) for y in re.findall(r"cy='([\d.]+)'", html)]
    assert min(tops) == 30  # the largest loss lies at the top of its chart


def test_a_history_shows_its_curves():
    training = history({"step": 1, "loss": 1.0}, {"step": 2, "loss": 0.5, "score": 0.3})
    assert training._repr_html_() == mn.show(training).html


def test_curves_without_validation_and_without_anything():
    assert mn.show(history({"step": 1, "loss": 1.0})).html.count("<svg") == 1
    assert mn.show(history()).html.count("<path") == 3  # the lines of an empty chart


def test_text_in_pages_is_escaped():
    assert "<b>" not in display.picture_html(np.zeros((2, 2, 3), np.uint8), "<b>'\"")
