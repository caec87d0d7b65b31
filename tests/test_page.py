"""The page: whole without a script, refused where it would overwrite, and working in a browser where there is one."""

import re
import shutil
import subprocess
from html import unescape
from html.parser import HTMLParser

import numpy as np
import pytest
import report
from conftest import ROOT
from recorded import UNSEEN, drawn_labels, record, write_recorded
from reporting import charts
from reporting.page import page
from reproducing.recipes import read_tables
from reproducing.study import groups

from common import cli
from common.errors import UserError

pytestmark = pytest.mark.slow

BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
VOID = {"meta", "link", "input", "br"}


@pytest.fixture
def site(tmp_path, monkeypatch):
    own = '[o]\nscript = "o"\nseeds = [0]\nmetrics = { mae = "MAE" }\nrows = "r"\nprotocol = "own"\n'
    write_recorded(tmp_path, monkeypatch, own + '[o.scales.small]\ntitle = "Own"\nflags = ""\n')
    (tmp_path / "data" / "histograms.json").write_text((ROOT / "data" / "histograms.json").read_text())
    return tmp_path / "site"


class Reader(HTMLParser):
    """Checks that tags are closed in order; collects what a test asks for."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.words = [], [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, self.getpos()

    def handle_data(self, data):
        self.words.append(data)


def test_its_tables_are_there_without_a_script(site):
    read = Reader(page())
    rows = [attrs for tag, attrs in read.tags if tag == "tr" and "data-method" in attrs]
    assert len(rows) == 4 * 2 * 4  # rows and the ensemble, metrics, shots
    assert not any("hidden" in attrs for attrs in rows)
    text = "".join(read.words)
    for words in ("A <small> table", "INV + LDS", "better", "holds", "carried over", "as the paper of 2021"):
        assert words in text
    assert "python t-dir/train.py --x 1 --reweight inverse --seed 0" in text
    names = [attrs["id"] for _, attrs in read.tags if "id" in attrs]
    assert len(names) == len(set(names))
    links = {attrs["href"][1:] for tag, attrs in read.tags if tag == "a"}
    assert links <= set(names)


def test_it_needs_no_network(site):
    for tag, attrs in Reader(page()).tags:
        assert "src" not in attrs, tag
        assert not re.match(r"https?:|//", attrs.get("href", "")), tag
    assert "@import" not in page() and "url(" not in page()


def test_stand_ins_and_rows_that_lack_a_seed_are_marked(site):
    for path in (cli.ROOT / "results").glob("*/*.json"):
        path.write_text(path.read_text().replace('"dataset"', '"standin": "drawn & so on", "dataset"'))
    (cli.ROOT / "results" / "t-small" / "inv.seed1.json").unlink()
    text = page()
    assert '<span class="badge">stand-in</span> drawn &amp; so on' in text
    assert "INV lacks seed 1, so it is not compared" in text


def test_rows_of_an_own_protocol_do_not_compare(site):
    labels = np.arange(60, dtype=np.float32)
    for cell in read_tables()["o-small"].cells():
        record(cell, labels, labels + 1)
    text = page()
    section = text[text.index('<section id="o-small"') :]
    assert "each row its authors' own: rows do not compare" in unescape(section)
    assert "undecided" not in section and "better" not in section and "1.000" in section


def add_later_methods(folder):
    """A second table of the same budget, under another protocol, with one row."""
    more = '[study-t]\nlike = "t"\nabout = "more"\nseeds = [0, 1]\nrows = "s"\nprotocol = "one"\n'
    more += '[rows.s]\n"New & dear" = { flags = "--new" }\n'
    path = folder / "data" / "recipes.toml"
    path.write_text(path.read_text() + more)
    labels = drawn_labels()
    for cell in read_tables()["study-t-small"].cells():
        record(cell, labels, labels + 1)


def test_pooled_tables_keep_their_protocols_and_commands(site, tmp_path):
    add_later_methods(tmp_path)
    read = Reader(page())
    of = {attrs["data-method"]: attrs["data-protocol"] for tag, attrs in read.tags if "data-method" in attrs}
    assert of == {"Vanilla": "p-", "INV": "p-", "INV + LDS": "p-", "Ensemble": "p-", "New & dear": "p-one"}
    (section,) = (attrs for tag, attrs in read.tags if tag == "section")
    assert section["data-protocol"] == "p- p-one"
    text = "".join(read.words)
    for name in ("t-small", "study-t-small"):
        assert f"python scripts/reproduce.py --table {name}" in text


def test_labels_without_training_data_are_shown_where_a_table_has_them(tmp_path, monkeypatch):
    write_recorded(tmp_path, monkeypatch, unseen=UNSEEN)
    (tmp_path / "data" / "histograms.json").write_text((ROOT / "data" / "histograms.json").read_text())
    shown = {attrs["data-shot"] for tag, attrs in Reader(page()).tags if "data-shot" in attrs}
    assert shown == {"all", "many", "medium", "few", "interpolation", "extrapolation"}


@pytest.mark.parametrize(
    ("name", "words", "total"),
    [("utkface-small", "training images", 7262), ("tabular-energy-small", "training rows", 574)],
)
def test_training_histograms_have_a_bar_for_each_bin_with_rows(name, words, total):
    group = next(group for group in groups() if group.name == name)
    found, bars = charts.training_histogram(group)
    assert found == words
    assert sum(n for _, n in bars) == total
    labels = group.frames["Vanilla"][0]["label"]
    assert sum(n for label, n in bars if labels.min() <= label <= labels.max()) > 0.9 * total


def test_a_folder_with_other_files_is_refused(site):
    argv = ["--out", str(site)]
    assert report.main(argv) == report.main(argv) == 0  # its own page is written anew
    before = (site / "index.html").read_text()
    (site / "notes.txt").touch()
    with pytest.raises(
        UserError, match="--out .*site: holds notes.txt, which is no page of ours; name a new"
    ):
        report.main(argv)
    (site / "notes.txt").unlink()
    (site / "index.html").write_text("<p>someone's own</p>")
    with pytest.raises(UserError, match="holds index.html, which is no page of ours"):
        report.main(argv)
    assert "someone" in (site / "index.html").read_text() and "<main>" in before
    with pytest.raises(UserError, match=r"index\.html: is a file"):
        report.main(["--out", str(site / "index.html")])


PROBE = """<script>
const visible = () => [...document.querySelectorAll("tr[data-method]")].filter((row) => !row.hidden);
const names = (table) => [...table.tBodies[0].rows].filter((row) => !row.hidden).map((row) => row.dataset.method);
const found = [visible().length];
const table = document.querySelector("table.sortable"), form = document.querySelector("form");
const set = (name, value) => {
  form.elements[name].value = value;
  form.elements[name].dispatchEvent(new Event("input"));
  found.push(visible().length);
};
const heads = [...table.querySelectorAll("th button")];
heads[3].click(); found.push(names(table)[0]);
heads[3].click(); found.push(names(table).at(-1));
set("method", "lds");
set("metric", "");
set("shot", "");
set("method", "");
set("protocol", "p-one");
found.push(names(table)[0], document.querySelector("section").hidden);
const line = document.querySelector(".legend button"); line.click();
found.push(document.querySelector("polyline[id]").style.display, line.getAttribute("aria-pressed"));
found.push(document.documentElement.scrollWidth <= innerWidth, document.querySelectorAll(".commands button").length);
document.title = JSON.stringify(found);
</script>"""


@pytest.mark.skipif(BROWSER is None, reason="there is no Chromium here")
def test_in_a_browser_it_sorts_and_filters_and_fits_a_phone(site, tmp_path):
    add_later_methods(tmp_path)
    report.main(["--out", str(site)])
    probed = tmp_path / "probed.html"
    probed.write_text((site / "index.html").read_text().replace("</body>", f"{PROBE}</body>"))
    flags = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--window-size=500,900",
        f"--user-data-dir={tmp_path}/p",
    ]
    ended = subprocess.run(
        [BROWSER, *flags, "--dump-dom", probed.as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    title = re.search(r"<title>(.*?)</title>", ended.stdout).group(1)
    assert (
        unescape(title) == '[5,"INV + LDS","INV + LDS",1,2,8,40,8,"New & dear",false,"none","false",true,4]'
    )
