"""The page of the glass box: whole, on its own, its scripts sound, and made of what the user gave."""

import json
import re
import subprocess
from html.parser import HTMLParser

import numpy as np
import pytest
from in_node import node

import minunet as mn
from minunet import cli
from minunet.data import Coding, DataError, synthetic, write_image
from minunet.display import one_page
from minunet.errors import UsageError
from minunet.glassbox import page, reference
from minunet.glassbox.subject import subject


@pytest.fixture(autouse=True)
def on_numpy():
    with mn.use_backend("numpy"):
        yield


@pytest.fixture(scope="module")
def cells():
    images, masks = synthetic.cells(1, 32, seed=3)
    return images[0], masks[0]


@pytest.fixture(scope="module")
def made(cells):
    with mn.use_backend("numpy"):
        return mn.glassbox(mn.UNet(1, 2, (3, 4), padding="same", norm="batch", dropout=0.5, seed=1), *cells)


class Elements(HTMLParser):
    """The tags of a page with their attributes, and the text of its scripts."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict]] = [("", {})]
        self.scripts: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))
        if tag == "script":
            self.scripts.append("")

    def handle_data(self, data):
        if self.found[-1][0] == "script":
            self.scripts[-1] += data


def contents(html: str) -> dict:
    return json.loads(Elements(html).scripts[0])


def test_the_page_asks_no_network(made):
    elements = Elements(made.html)
    assert all(not value.startswith(("http", "//")) for _, a in elements.found for k, value in a.items()
               if k in ("src", "href"))  # fmt: skip
    assert not {"src"} & {name for tag, attributes in elements.found if tag == "script" for name in attributes}
    asking = r"https?:(?!//www.w3.org/2000/svg)|import\(|fetch\(|XMLHttpRequest"  # that of SVG is a name, no address
    assert re.search(asking, "".join(elements.scripts[1:])) is None
    policy = next(a["content"] for _, a in elements.found if a.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none';")


def test_every_element_that_the_script_asks_for_is_there_once(made):
    elements = Elements(made.html)
    ids = [attributes["id"] for _, attributes in elements.found if "id" in attributes]
    asked = set(re.findall(r'byId\("([\w-]+)"\)', elements.scripts[2]))
    assert len(ids) == len(set(ids)) and asked <= set(ids) and len(asked) > 10


def test_the_scripts_are_sound_javascript(made, tmp_path):
    for number, script in enumerate(Elements(made.html).scripts[1:]):
        file = tmp_path / f"{number}.js"
        file.write_text(script)
        checked = subprocess.run([node(), "--check", str(file)], capture_output=True, text=True)
        assert checked.returncode == 0, checked.stderr


def test_the_joined_script_computes_as_the_worker_does(made, tmp_path):
    """What the page's own script answers in a worker: the verdict of the page, before and after an edit."""
    elements = Elements(made.html)
    (tmp_path / "contents.json").write_text(elements.scripts[0])
    (tmp_path / "worker.js").write_text(elements.scripts[1] + """
const contents = JSON.parse(require("node:fs").readFileSync(process.argv[2], "utf8"));
const answers = [];
const scope = { postMessage: (message) => answers.push(message) };
MODULES.work.serve(scope);
scope.onmessage({ data: contents });
const errors = (training) => {
  const { answer } = answers.pop();
  return MODULES.box.verdict(answer, contents.checks[training ? "train" : "eval"])[0].error;
};
const edits = [{ name: "input", place: 40, value: 9 }];
const found = [true, false].map((training) => {
  scope.onmessage({ data: { id: 1, task: "compute", training, edits: [] } });
  return errors(training);
});
scope.onmessage({ data: { id: 2, task: "compute", training: true, edits } });
found.push(errors(true));
scope.onmessage({ data: { id: 3, task: "difference", name: "input", place: 40 } });
const { held, free } = answers.pop().answer;
scope.onmessage({ data: { id: 4, task: "unknown" } });
console.log(JSON.stringify([...found, typeof held.slope, Array.isArray(free.changed), answers.pop().error]));
""")
    script, given = tmp_path / "worker.js", tmp_path / "contents.json"
    run = subprocess.run([node(), str(script), str(given)], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    train, evaluation, edited, slope, changed, error = json.loads(run.stdout)
    assert train <= 1e-10 and evaluation <= 1e-10 and edited > 1e-6
    assert slope == "number" and changed and "not a function" in error


def test_modules_are_joined_in_the_order_of_their_needs(tmp_path):
    (tmp_path / "a.js").write_text('import { two } from "./b.js";\n\nexport const four = 2 * two();\n')
    (tmp_path / "b.js").write_text("const hidden = 2;\n\nexport function two() {\n  return hidden;\n}\n")
    script = tmp_path / "joined.js"
    script.write_text(one_page.joined([tmp_path]) + "\nconsole.log(MODULES.a.four, typeof hidden);")
    assert subprocess.check_output([node(), str(script)], text=True) == "4 undefined\n"


def test_no_import_is_left_and_every_name_is_exported(made):
    scripts = Elements(made.html).scripts
    assert not re.search(r"^\s*(import|export)\b", scripts[1] + scripts[2], re.MULTILINE)
    for folder in (page.MODULES, page.DRAWING):
        for file in folder.glob("*.js"):
            for names, other in one_page._IMPORT.findall(file.read_text()):
                target = next(f for f in (page.MODULES / f"{other}.js", page.DRAWING / f"{other}.js") if f.exists())
                exported = {name for _, name in one_page._EXPORT.findall(target.read_text())}
                assert {name.strip() for name in names.split(",")} <= exported


def test_what_travels(made, cells):
    found = contents(made.html)
    assert found["mode"] == "train" and set(found["checks"]) == {"train", "eval"} and found["loss"] == "ce+dice"
    assert set(found["masks"]) == {"downs.1.conv.6", "bottleneck.conv.6"}
    assert found["weight"]["shape"] == [1, 32, 32]  # instances: the weight map, as in training
    assert len(made.html) < 1e6


def test_a_name_is_text(cells):
    html = mn.glassbox(mn.UNet(1, 2, (2,), padding="same"), *cells, files=("<script>.png", "mask.png")).html
    assert "<script>.png" not in html and "&lt;script&gt;.png" in html


def test_the_model_stays_as_it_is(cells):
    model = mn.UNet(1, 2, (2,), padding="same", norm="batch").eval()
    before = {name: array.copy() for name, array in model.state_dict().items()}
    mn.glassbox(model, *cells)
    assert not model.training and all(p.grad is None for p in model.parameters())
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(array, before[name])


@pytest.mark.parametrize("side, given", [(32, 72), (9, 48), (3, 44)])
def test_a_valid_network_sees_a_window_with_its_context(side, given):
    model = mn.UNet(1, 2, (2, 2))
    image = np.arange(side * side, dtype=np.uint8).reshape(side, side)
    found = subject(model, image, (image > 20).astype(np.uint8))
    assert found.x.shape == (1, 1, given, given)
    assert found.target.shape[1:] == model.output_size((given, given))
    inner = found.x[0, 0, 20 : given - 20, 20 : given - 20]
    np.testing.assert_array_equal(found.target[0], inner > 20)  # target and image are cut alike


def test_without_a_mask_the_prediction_is_the_target(cells):
    model = mn.UNet(1, 3, (2,), padding="same", seed=2)
    found = subject(model, cells[0], None)
    np.testing.assert_array_equal(found.target[0], mn.predict(model, cells[0]).argmax(axis=0))
    assert found.weight is None and "own prediction" in found.note


def test_small_numbers_are_classes_for_a_model_without_coding():
    model, mask = mn.UNet(1, 3, (2,), padding="same"), np.zeros((8, 8), np.uint8)
    mask[2:5] = 2
    np.testing.assert_array_equal(subject(model, mask, mask).target[0], mask)


def test_refused(cells, tmp_path):
    model = mn.UNet(1, 2, (2, 2), padding="same")
    with pytest.raises(UsageError, match="mode must be train or eval, found 'test'"):
        mn.glassbox(model, *cells, mode="test")
    with pytest.raises(UsageError, match="pixel 32,0 lies outside the logits of 32 x 32 px"):
        mn.glassbox(model, *cells, pixel=(32, 0))
    with pytest.raises(UsageError, match=r"even a recording with the coarsest pictures has 0\.\d MB, more than 0.001"):
        mn.glassbox(model, *cells, tmp_path / "page.html", max_mb=0.001)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(DataError, match="a side of 3 px: a model of 2 levels needs at least 4"):
        mn.glassbox(model, np.zeros((3, 9)))
    model.coding = Coding("indices", (0, 1, 2))
    with pytest.raises(DataError, match="3 classes for a model of 2"):
        mn.glassbox(model, cells[0], np.zeros((32, 32), np.uint8))


def test_in_a_notebook_and_as_a_file(made, tmp_path):
    made.save(tmp_path / "page.html")
    assert (tmp_path / "page.html").read_text(encoding="utf-8") == made.html
    shown = made._repr_html_()
    assert shown.startswith('<iframe srcdoc="&lt;!doctype html&gt;') and "<script" not in shown
    assert re.fullmatch(r"<glass box, 0\.\d MB: a notebook shows it, .*>", repr(made))


def test_the_command(cells, tmp_path, capsys):
    pytest.importorskip("PIL")
    image, mask, model, out = (tmp_path / name for name in ("cell.png", "cell_mask.png", "model.npz", "box.html"))
    write_image(image, cells[0])
    write_image(mask, cells[1])
    mn.save(mn.UNet(1, 2, (2,), padding="same"), model)
    command = ["glassbox", str(model), str(image), "--mask", str(mask), "-o"]
    assert cli.main([*command, str(out), "--mode", "eval", "--pixel", "4,5", "--backend", "numpy"]) == 0
    assert "opens in a browser from disk" in capsys.readouterr().out
    found = contents(out.read_text(encoding="utf-8"))
    assert found["mode"] == "eval" and found["pixel"] == [4, 5] and set(found["checks"]) == {"eval"}
    assert cli.main([*command, str(tmp_path / "box.txt")]) == 2
    assert "expected .html" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        cli.main([*command, str(out), "--pixel", "4"])


def test_masks_are_drawn_for_every_dropout_and_the_same_each_time():
    model = reference.in_float64(mn.UNet(1, 2, (2, 3), padding="same", dropout=0.25))
    x = np.zeros((1, 1, 64, 64))
    first, second = (reference.draw_masks(model, x) for _ in range(2))
    assert {name: mask.shape for name, mask in first.items()} == {
        "downs.1.conv.4": (1, 3, 32, 32), "bottleneck.conv.4": (1, 6, 16, 16)}  # fmt: skip
    for name, mask in first.items():
        np.testing.assert_array_equal(mask, second[name])
        assert 0.68 < mask.mean() < 0.82
