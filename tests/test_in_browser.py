"""The browser that pages are tested in: what a page does wrong is seen."""

PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>A page</title><link rel="icon" href="data:,">
<meta http-equiv="Content-Security-Policy" content="img-src data:">
<input type="file" id="file"><button onclick="document.title = 'pressed'">press</button><img id="picture" alt="">
<script>
const address = (text) => URL.createObjectURL(new Blob([text], { type: "text/javascript" }));
function fail() {
  document.getElementById("picture").src = "http://127.0.0.1:9/forbidden.png";
  fetch("http://127.0.0.1:9/asked").catch(() => {});
  console.error("said so");
  new Worker(address("console.error('in a worker'); fetch('http://127.0.0.1:9/there').catch(() => {}); no()"));
  setTimeout(() => { throw new Error("thrown"); });
}
</script></html>"""


def test_errors_and_requests_are_seen(browser, tmp_path):
    (tmp_path / "page.html").write_text(PAGE)
    page = browser.open(tmp_path / "page.html")
    assert (page.errors, page.requests) == ([], [])
    page.evaluate("fail()")
    for part in ("forbidden.png", "said so", "in a worker", "no is not defined", "thrown"):
        waited = 0
        while not any(part in error for error in page.errors):
            page.evaluate("new Promise((done) => setTimeout(done, 20))")
            waited += 1
            assert waited < 500, f"{part} is not among {page.errors}"
    assert {"http://127.0.0.1:9/asked", "http://127.0.0.1:9/there"} <= set(page.requests)
    page.close()


def test_window_keys_and_files(browser, tmp_path):
    (tmp_path / "page.html").write_text(PAGE)
    page = browser.open(tmp_path / "page.html", 360, 640, dark=True)
    assert page.evaluate("[innerWidth, matchMedia('(prefers-color-scheme: dark)').matches]") == [360, True]
    page.choose_files("#file", tmp_path / "page.html")
    assert page.evaluate("document.getElementById('file').files[0].text()") == PAGE
    page.press("Tab")
    page.press("Tab")
    page.press("Enter")
    page.wait_for("document.title === 'pressed'")
    page.screenshot(tmp_path / "page.png")
    assert (tmp_path / "page.png").read_bytes().startswith(b"\x89PNG")
    assert page.errors == []
    page.close()
