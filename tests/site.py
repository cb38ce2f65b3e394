"""The built site, as `make docs` looks at it: no network, and search from a file.

    python -m tests.site build/site

The search is tried in a real browser; without one this part is left out and said so.
"""

import html.parser
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path


class Loads(html.parser.HTMLParser):
    """Collects what a page loads by itself; links to follow are not among it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note the addresses of scripts, pictures, frames and styles."""
        given = dict(attrs)
        self.addresses += [
            given[name] or "" for name in ("src", "srcset") if name in given
        ]
        if tag == "link" and given.get("rel") not in ("next", "prev", "canonical"):
            self.addresses.append(given.get("href") or "")


def check_loads(site: Path) -> None:
    """Refuse a page that loads something from a network, or what is not there."""
    pages = sorted(site.glob("*.html"))
    if len(pages) < 10:
        sys.exit(f"{site} has only {len(pages)} pages")
    for page in pages:
        for address in Loads(page.read_text(encoding="utf-8")).addresses:
            place = re.split("[?#]", address)[0]
            if page.name == "404.html" and place.startswith("/"):
                place = place[1:]  # a server's page of errors
            if "//" in address or not (page.parent / place).exists():
                sys.exit(f"{page.name} loads {address}")
    print(f"{len(pages)} pages load nothing from a network")


def check_search(site: Path) -> None:
    """Search in a browser that opens the site from its file."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser")
    if not browser:
        print("there is no chromium, so the search is not tried")
        return
    with tempfile.TemporaryDirectory() as folder:
        command = [
            browser,
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--dump-dom",
        ]
        command += [
            "--host-resolver-rules=MAP * ~NOTFOUND",
            f"--user-data-dir={folder}",
        ]
        address = (site / "index.html").resolve().as_uri() + "?q=temperature"
        command += ["--virtual-time-budget=20000", address]
        shown = subprocess.run(
            command, capture_output=True, text=True, timeout=300
        ).stdout
    found = re.search(r"(\d+) matching documents", shown)
    if not found:
        sys.exit("the search finds nothing where the site is opened from a file")
    print(f"the search finds {found[1]} pages")


if __name__ == "__main__":
    check_loads(Path(sys.argv[1]))
    check_search(Path(sys.argv[1]))
