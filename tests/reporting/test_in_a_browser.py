"""The page as a browser shows it: on a desk, on a phone, light, dark, and on paper."""

import html
import json
import re

import pytest

from tests.helpers import Page, in_a_browser

#: Shows a page in frames of several widths and says what is seen in each.
FRAMES = """
<!doctype html><meta charset="utf-8"><body>
<iframe id="desk" width="1280" height="900" srcdoc="PAGE"></iframe>
<iframe id="phone" width="390" height="844" srcdoc="PAGE"></iframe>
<pre id="out"></pre>
<script>
const seen = (frame) => {
  const inside = frame.contentDocument, root = inside.documentElement;
  const view = frame.contentWindow;
  const one = (selector) => inside.querySelector(selector);
  const table = one("table.sortable");
  const names = () => [...table.tBodies[0].rows].map((row) => row.cells[0].innerText);
  const head = table.tHead.rows[0].cells[2];
  const found = { width: root.scrollWidth, before: names() };
  for (const way of ["up", "down"]) {
    head.querySelector("button").click();
    found[way] = [names(), head.getAttribute("aria-sort")];
  }
  const links = [...inside.querySelectorAll("nav a")];
  found.links = links.length;
  const leads = (link) => inside.getElementById(link.hash.slice(1));
  found.lost = links.filter((link) => !leads(link)).map((link) => link.hash);
  found.open = one("nav > details").open;
  const bar = one(frame.id === "phone" ? "nav" : "nav > details");
  found.stuck = view.getComputedStyle(bar).position;
  found.here = one("nav a[aria-current=true]").textContent;
  const images = [...inside.images];
  found.loaded = images.every((i) => i.complete && i.naturalWidth > 0);
  found.cards = [...inside.querySelectorAll(".card img")].map(
    (i) => [i.naturalWidth, view.getComputedStyle(i).imageRendering]);
  const wide = (box) => box.getBoundingClientRect().right > root.clientWidth + 1;
  found.over = [...inside.querySelectorAll("main > *, header > *, article > *")]
    .filter(wide).length;
  found.asked = view.performance.getEntriesByType("resource")
    .map((one) => one.name).filter((name) => !name.startsWith("data:"));
  found.background = view.getComputedStyle(inside.body).backgroundColor;
  links.find((a) => a.hash === "#made").click();
  found.after = one("nav > details").open;
  view.dispatchEvent(new Event("beforeprint"));
  found.folded = [...inside.querySelectorAll("details")].filter((d) => !d.open).length;
  return found;
};
addEventListener("load", () => {
  const frames = [...document.querySelectorAll("iframe")];
  const found = Object.fromEntries(frames.map((frame) => [frame.id, seen(frame)]));
  document.getElementById("out").textContent = JSON.stringify(found);
});
</script></body>
"""


def shown(text, folder, *options):
    """Return what a browser sees of a page, by frame."""
    dom = in_a_browser(FRAMES.replace("PAGE", html.escape(text)), folder, *options)
    return json.loads(
        html.unescape(re.search(r'<pre id="out">(.*?)</pre>', dom, re.S)[1])
    )


@pytest.mark.parametrize("dark", [False, True])
def test_the_page_in_a_browser(report, tmp_path, dark, read_csv):
    """Tables sort, links lead somewhere, nothing hangs over the edge or is fetched."""
    text = (report / "index.html").read_text()
    scheme = f"--blink-settings=preferredColorScheme={0 if dark else 1}"
    frames = shown(text, tmp_path, scheme, "--window-size=1400,1900")
    rows = read_csv(report, "overview_cifar10")
    ordered = sorted(rows, key=lambda label: float(rows[label]["ECE (%)"]))
    for name, found in frames.items():
        assert found["before"] == list(rows)
        assert found["up"] == [ordered, "ascending"]
        assert found["down"] == [ordered[::-1], "descending"]
        assert found["links"] > 20 and found["lost"] == []
        assert found["width"] <= {"desk": 1280, "phone": 390}[name]
        assert found["over"] == 0 and found["asked"] == []
        assert found["loaded"] and found["stuck"] == "sticky"
        assert found["here"] == "At a glance: CIFAR-10"
        assert found["cards"] and all(one == [4, "pixelated"] for one in found["cards"])
        assert found["folded"] == 0  # on paper everything is shown
        red = int(re.match(r"rgb\((\d+)", found["background"])[1])
        assert (red < 128) == dark
    # The list stands open at the side; on a phone it is a bar that closes.
    assert frames["desk"]["open"] and frames["desk"]["after"]
    assert not frames["phone"]["open"] and not frames["phone"]["after"]


def test_the_page_is_whole_without_its_script(report):
    """Every section has its link, and nothing that holds content needs a script."""
    text = (report / "index.html").read_text()
    without = Page(re.sub(r"<script>.*?</script>", "", text, flags=re.S))
    assert not without.open
    linked = {link[1:] for link in without.links if link.startswith("#")}
    assert set(re.findall(r'<section id="(\w+)"', text)) <= linked <= without.ids
    assert "<details open><summary>Contents</summary>" in text
    assert " hidden" not in text and "display: none; }\nmain" not in text
