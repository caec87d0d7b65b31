"""What the READMEs say works: commands parse, links lead somewhere. The Python of docs/ runs in test_docs.py."""

import importlib.util
import re
import shlex
import sys

import pytest
from reproducing.recipes import find_table, read_tables

from common import cli

pytestmark = pytest.mark.slow

ROOT = cli.ROOT
READMES = [path for path in [*ROOT.glob("*.md"), *ROOT.glob("*/README.md")] if path.parent.name[0] != "."]
BLOCK = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)


def blocks(path, *languages):
    return [text for language, text in BLOCK.findall(path.read_text("utf-8")) if language in languages]


def name_of(path):
    return str(path.relative_to(ROOT))


def commands(word):
    """`(README, rest of the line)` of every command that starts with `word`, in blocks and in the text."""
    for path in READMES:
        text = path.read_text("utf-8")
        shell = "\n".join(blocks(path, "", "bash", "sh", "console")).replace("\\\n", " ")
        inline = re.findall(rf"`{word} ([^`\n]+)`", BLOCK.sub("", text))
        for line in [*re.findall(rf"^(?:.*[$:] +)?{word} (.+)$", shell, re.MULTILINE), *inline]:
            yield name_of(path), line


PYTHON = [(where, line) for where, line in commands("python") if ".py" in line.split()[0]]


def test_the_readmes_are_found():
    assert {"README.md", "agedb-dir/README.md", "sts-b-dir/README.md"} <= set(map(name_of, READMES))
    assert len(PYTHON) > 20
    assert len(list(commands("make"))) >= 3


# Commands


class Parsed(Exception):
    """The command line was read to its end."""


def load(script):
    """A script as a module under a name of its own, as there are several train.py."""
    name = "readme_" + re.sub(r"\W", "_", script)
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, ROOT / script)
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


def parse(script, argv, monkeypatch):
    """The arguments of a command as its script reads them; it stops there."""
    real = cli.Parser.parse_args

    def parse_args(self, args=None, namespace=None):
        parsed = real(self, args, namespace)
        if list(args) == argv[len(argv) - len(args) :]:  # a first parser may have read the first word only
            raise Parsed(parsed)
        return parsed

    monkeypatch.setattr(cli.Parser, "parse_args", parse_args)
    with pytest.raises(Parsed) as caught:
        load(script).main(argv)
    return caught.value.args[0]


@pytest.mark.parametrize(("where", "line"), PYTHON, ids=[f"{where}: {line}" for where, line in PYTHON])
def test_commands_parse(where, line, monkeypatch):
    script, *argv = shlex.split(line, comments=True)
    assert (ROOT / script).is_file()
    args = vars(parse(script, argv, monkeypatch))
    if args.get("table") not in {None, *read_tables()}:
        assert find_table(args["table"], args.get("scale") or "small")


@pytest.mark.parametrize(
    "line",
    [
        "agedb-dir/train.py --lsd",
        "scripts/prepare.py agedb --cvs F",
        "scripts/make_standin.py nyud",
        "scripts/tables.py x",
    ],
)
def test_a_wrong_command_would_be_noticed(line, monkeypatch, capsys):
    script, *argv = line.split()
    with pytest.raises(SystemExit):
        parse(script, argv, monkeypatch)
    assert "error: " in capsys.readouterr().err


def test_make_targets_exist():
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    for where, line in commands("make"):
        assert line.split()[0] in targets, f"{where}: make {line}"


# Links


def slugs(path):
    """The anchors of a Markdown file's headings, as GitHub makes them."""
    text = BLOCK.sub("", path.read_text("utf-8"))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in HEADING.findall(text)}


LINKS = [
    (path, target)
    for path in READMES
    for target in LINK.findall(BLOCK.sub("", path.read_text("utf-8")))
    if not re.match(r"\w+:", target)
]


def leads_somewhere(path, target):
    """Whether the file of a link is there, and its heading in it."""
    file, _, anchor = target.partition("#")
    there = path.parent / file if file else path
    return there.exists() and (not anchor or anchor in slugs(there))


@pytest.mark.parametrize(
    ("path", "target"), LINKS, ids=[f"{name_of(path)}: {target}" for path, target in LINKS]
)
def test_links_lead_somewhere(path, target):
    assert leads_somewhere(path, target)


@pytest.mark.parametrize(
    ("target", "good"),
    [
        ("#two-words", True),
        ("other.md#there", True),
        ("folder", True),
        ("#two-wards", False),
        ("#not-a-heading", False),
        ("other.md#not-there", False),
        ("gone.md", False),
        ("gone.md#there", False),
    ],
)
def test_a_broken_link_would_be_noticed(tmp_path, target, good):
    readme = tmp_path / "README.md"
    readme.write_text("# Two words\n```\n# Not a heading\n```\n")
    (tmp_path / "other.md").write_text("## There\n")
    (tmp_path / "folder").mkdir()
    assert leads_somewhere(readme, target) is good


def test_every_script_says_in_its_help_what_it_does(monkeypatch, capsys):
    for path in sorted([*ROOT.glob("*-dir/train.py"), *ROOT.glob("scripts/*.py")]):
        script = name_of(path)
        if not hasattr(load(script), "main"):
            continue  # a module of another script
        with pytest.raises(SystemExit) as ended:
            load(script).main(["--help"])
        assert ended.value.code == 0
        assert f"usage: {script}" in capsys.readouterr().out


def test_the_front_page_counts_as_the_study_does():
    study = (ROOT / "results" / "study.md").read_text(encoding="utf-8")
    found = re.search(
        r"from (\d+) recorded runs .* (\d+) claims of papers, (\d+) of which [^:]*: (.*)\.", study
    )
    assert found is not None
    runs, claims, judged, verdicts = found.groups()
    lacking = re.search(r"^(\d+) of the runs are of rows that lack a seed", study, re.MULTILINE)
    assert lacking is not None
    readme = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    assert f"From {runs} recorded runs on real data" in readme
    assert f"{lacking[1]} runs are of rows that lack a seed and are compared with nothing" in readme
    assert (
        f"Of {claims} claims of papers {judged} could be judged, corrected for their number: {verdicts}."
        in readme
    )
