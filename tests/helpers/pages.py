"""Pages: what they hold, read from their HTML, and what a browser is asked of them."""

from __future__ import annotations

import shutil
from html.parser import HTMLParser

import pytest

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
QUIET = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
SCRIPT = "<img src=x onerror=\"window.harmed='img'\"><script>window.harmed='script'</script>"
needs_browser = pytest.mark.skipif(BROWSER is None, reason="needs Chromium (Debian: apt-get install chromium)")


class Outline(HTMLParser):
    """Tags and attributes of a page, the ids of its figures with their text, and the SQL that it shows."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.figures: dict[str, str] = {}
        self.sql: list[str] = []
        self.is_sql = False
        self.within: str | None = None
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == "pre":
            self.is_sql = True
            self.sql.append("")
        if tag == "figure":
            self.within = str(dict(attrs)["id"]).removeprefix("figure-")
            self.figures[self.within] = ""

    def handle_endtag(self, tag: str) -> None:
        if tag == "figure":
            self.within = None
        self.is_sql = self.is_sql and tag != "pre"

    def handle_data(self, data: str) -> None:
        if self.is_sql:
            self.sql[-1] += data
        elif self.within:
            self.figures[self.within] += data


# Words of tables that are seen in two lines.
BROKEN = """() => {
  const found = [], texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const node = texts.currentNode, cell = node.parentElement.closest('td, th');
    for (const word of cell && cell.offsetWidth ? node.data.matchAll(/\\w+/g) : []) {
      const range = document.createRange();
      range.setStart(node, word.index);
      range.setEnd(node, word.index + word[0].length);
      if (new Set([...range.getClientRects()].map((box) => Math.round(box.top))).size > 1) found.push(word[0]);
    }
  }
  return found;
}"""
CONTRAST = """() => {
  const parse = (text) => { const p = text.match(/[\\d.]+/g).map(Number); return p.length < 4 ? [...p, 1] : p; };
  const linear = (v) => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
  const light = ([r, g, b]) => 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
  const ratio = (...colours) => {
    const [x, y] = colours.map(light).sort((p, q) => q - p);
    return (x + 0.05) / (y + 0.05);
  };
  const behind = (e) => { for (; e; e = e.parentElement) { const c = parse(getComputedStyle(e).backgroundColor);
    if (c[3] > 0.5) return c; } return [255, 255, 255, 1]; };
  const poor = [];
  for (const e of document.querySelectorAll('body *')) {
    if (![...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim()) || e.tagName === 'title') continue;
    if (e.closest('.skip, svg title')) continue;
    const style = getComputedStyle(e);
    const ink = parse(e.closest('svg') && e.namespaceURI.endsWith('svg') ? style.fill : style.color);
    let ground = behind(e);
    if (e.matches('text.cell')) {  // stands on a shade of its own
      const shade = [...e.classList].find((c) => /^t\\d$/.test(c)).replace('t', 'q');
      ground = parse(getComputedStyle(document.documentElement).getPropertyValue('--' + shade).trim().replace(
        /^#(..)(..)(..)$/, (_, r, g, b) => [r, g, b].map((h) => parseInt(h, 16)).join(',')));
    }
    if (ratio(ink, ground) < 4.5) poor.push([e.tagName, e.getAttribute('class'), ratio(ink, ground).toFixed(2)]);
  }
  const paper = parse(getComputedStyle(document.body).backgroundColor);
  for (const e of document.querySelectorAll('.solid, .whisker, path.curve:not(.halo), rect[class^=s]')) {
    const style = getComputedStyle(e);
    const ink = parse(style.fill === 'none' || e.matches('.whisker') ? style.stroke : style.fill);
    if (ratio(ink, paper) < 3) poor.push([e.tagName, e.className.baseVal, ratio(ink, paper).toFixed(2)]);
  }
  return poor;
}"""
# Labels of drawings that are seen, and stick out of their figure or are cut.
CUT = """() => [...document.querySelectorAll('svg text')].filter((e) => {
  const [a, b] = [e.getBoundingClientRect(), e.closest('figure').getBoundingClientRect()];
  return a.width && (a.left < b.left - 1 || a.right > b.right + 1 || e.firstChild.data.endsWith('…'));
}).map((e) => [e.textContent, e.closest('figure').id])"""
SIDEWAYS = """() => [...document.querySelectorAll('.scroll')].filter((e) => e.scrollWidth > e.clientWidth)
  .map((e) => e.getAttribute('aria-label'))"""
STRUCTURE = """() => {
  const levels = [...document.querySelectorAll('h1, h2, h3, h4')].map((e) => Number(e.tagName[1]));
  return {
    h1: levels.filter((l) => l === 1).length,
    jumps: levels.filter((l, i) => i && l > levels[i - 1] + 1).length,
    silent: [...document.querySelectorAll('svg')].filter((e) => !e.parentElement.closest('svg')
      && e.getAttribute('aria-hidden') !== 'true'
      && (e.getAttribute('role') !== 'img' || (e.getAttribute('aria-label') || '').length < 10)).length,
    uncaptioned: [...document.querySelectorAll('table')].filter((t) => !t.caption?.textContent.trim()).length,
    unscoped: [...document.querySelectorAll('th')].filter((e) => !e.scope).length,
    headless: [...document.querySelectorAll('tbody tr')].filter((r) => !r.querySelector('th[scope=row]')).length,
    twice: [...document.querySelectorAll('[id]')].filter((e) => document.getElementById(e.id) !== e).length,
    language: document.documentElement.lang,
    landmarks: ['header', 'nav', 'main', 'footer'].filter((n) => !document.querySelector(n)),
  };
}"""
