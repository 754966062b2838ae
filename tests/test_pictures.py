"""Pictures: any file name can be drawn, and outlines are seen on every ground."""

import os

import numpy as np
import pytest

from minunet.display.pictures import CLASS_COLORS, Row, curves, overlay, overview, worst_images
from minunet.display.texts import drawable, printable
from minunet.doctor import sheet

NOT_UTF8 = os.fsdecode(b"gr\xfc\xdf") if os.name != "nt" else "gr\udcfc\udcdf"


@pytest.mark.parametrize(
    "text, shown",
    [
        ("Zelle 1 $x_^$ 細胞 😀", "Zelle 1 $x_^$ 細胞 😀"),
        ("gr\udcfc\udcdf", r"gr\xfc\xdf"),
        ("gr\udcc3\udcbc", "grü"),  # UTF-8, read where the system's encoding is ASCII
        ("\ud83d!", r"\ud83d!"),
        ("a\x1b[31m\nb\x9b", r"a\x1b[31m\nb\x9b"),
    ],
)
def test_what_cannot_be_drawn_is_escaped(text, shown):
    assert drawable(text) == shown


def test_control_characters_alone_are_escaped():
    assert printable("a\tb\nü", keep="\n") == "a\\tb\nü"


@pytest.mark.parametrize("name", [NOT_UTF8, "a\nb\x1b", "\ud83d"])
def test_any_name_can_be_in_a_picture(tmp_path, name):
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    truth = np.eye(8, dtype=np.int64)
    row = Row(name, np.zeros((8, 8), np.uint8), truth, np.stack([1 - truth, truth]).astype(np.float32), name)
    overview(tmp_path / "preview.png", [row], name, [name])
    worst_images(tmp_path / "worst.png", [row], name, [name])
    curves(tmp_path / "curves.png", [{"step": 1, "loss": 1.0, "lr": 0.1, "score": 0.5}], {"Otsu": 0.1}, name)
    assert len(list(tmp_path.iterdir())) == 3


def test_large_images_keep_their_outlines(tmp_path, monkeypatch):
    """They are made smaller before outlines are drawn, not after it."""
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    from matplotlib.axes import Axes

    drawn = []
    real = Axes.imshow
    monkeypatch.setattr(Axes, "imshow", lambda axis, data, **more: drawn.append(data.shape) or real(axis, data, **more))
    truth = np.zeros((1000, 700), np.int64)
    row = Row("a", np.zeros((1000, 700), np.uint8), truth, np.ones((2, 1000, 700), np.float32))
    worst_images(tmp_path / "worst.png", [row], "title", ["cells"])
    assert drawn[:3] == [(250, 175, 3)] * 3


@pytest.mark.parametrize("inside", [0, 100, 165, 255])
@pytest.mark.parametrize("outside", [0, 100, 165, 255])
@pytest.mark.parametrize("draw", [overlay, sheet.outlined])
def test_outlines_are_seen_on_every_ground(inside, outside, draw):
    """The line is in its colour, and what lies beside it on both sides is dark."""
    classes = np.zeros((20, 20), np.int64)
    classes[5:15, 5:15] = 1
    seen = draw(np.where(classes[..., None] > 0, inside, outside).repeat(3, axis=2).astype(np.uint8), classes)
    middle = seen[10].astype(int)
    assert middle[5].tolist() == CLASS_COLORS[0].tolist()
    for beside in (4, 6):
        assert np.abs(middle[beside] - middle[5]).max() > 100 and middle[beside].max() < 80
    assert (middle[3] == outside).all()
