"""What methods, builders and laws say they rest on: facts in one form, and in agreement."""

from __future__ import annotations

import inspect
import json
from dataclasses import replace
from importlib import import_module

import pytest
from click.testing import CliRunner

from lengthwise._utils.papers import Paper, cite, papers_of
from lengthwise.cli.methods import methods as command
from lengthwise.evaluation.judges.judge import JUDGES
from lengthwise.evaluation.tasks.benchmark import BENCHMARKS
from lengthwise.recipes import registry
from lengthwise.scaling import LAWS
from lengthwise.sequences.answers.base import ANSWERS
from lengthwise.sequences.builders.base import BUILDERS
from lengthwise.soft_contexts.base import SOFT_CONTEXTS
from lengthwise.tokenization.trainers.kind import KINDS
from lengthwise.training import cartridge, context, flexsp, growth, hcot, schedules
from lengthwise.workflows import agentwrite, batchprompt

CLASSES = [each.cls for each in registry.registered() if each.package == registry.OURS]
# Modules that name their paper themselves, as what they hold is no class of its own.
MODULES = {
    "lengthwise.architectures.byte2word": "PAPER",
    "lengthwise.architectures.code_merging": "PAPER",
    "lengthwise.architectures.learn_your_tokens": "PAPER",
    "lengthwise.tokenization.equal_info": "PAPER",
    "lengthwise.sequences.curricula": "PAPER",
    "lengthwise.sequences.icp": "PAPER",
    "lengthwise.sequences.upsampling": "PAPER",
    agentwrite.__name__: "PAPER",
    batchprompt.__name__: "PAPER",
    cartridge.__name__: "PAPER",
    context.__name__: "PAPER",
    flexsp.__name__: "PAPER",
    growth.__name__: "PAPER",
    hcot.__name__: "PAPER",
    "lengthwise.sequences.answers.compress": "PAPER",
    schedules.__name__: "POWER_PAPER",
}


def _builders() -> dict[str, object]:
    return {name: cls.paper for name, cls in BUILDERS.usable().items()}


def everything() -> list[tuple[str, Paper]]:
    """Every paper that is named anywhere, and by whom."""
    said = {cls.name: cls.paper for cls in CLASSES if cls is not None} | _builders()
    said |= {f"answers {name}": cls.paper for name, cls in ANSWERS.usable().items()}
    said |= {name: cls.paper for name, cls in SOFT_CONTEXTS.usable().items()}
    said |= {f"tokenizer {name}": cls.paper for name, cls in KINDS.usable().items()}
    said |= {f"benchmark {name}": cls.paper for name, cls in BENCHMARKS.usable().items()}
    said |= {f"judge {name}": cls.paper for name, cls in JUDGES.usable().items()}
    said |= {name: law.paper for name, law in LAWS.usable().items()}
    said |= {name: getattr(import_module(name), attribute) for name, attribute in MODULES.items()}
    return [(name, paper) for name, value in said.items() for paper in papers_of(value)]


NAMED = everything()
IDS = [f"{name}-{paper.arxiv or paper.year}" for name, paper in NAMED]


def test_every_method_of_ours_loads_and_rests_on_a_paper() -> None:
    """None is allowed, and so far no method of ours needs it."""
    assert len(CLASSES) > 30 and None not in CLASSES
    assert [cls.name for cls in CLASSES if not papers_of(cls.paper)] == []
    assert {name for name, paper in _builders().items() if paper is None} == {
        "concat", "concat-masked",
    }  # fmt: skip


@pytest.mark.parametrize(("name", "paper"), NAMED, ids=IDS)
def test_a_paper_can_be_found_and_its_year_fits_its_id(name: str, paper: Paper) -> None:
    assert paper.link.startswith("https://")
    assert not paper.code or paper.code.startswith("https://")
    if paper.arxiv:
        # A venue follows the first version within two years.
        assert 0 <= paper.year - (2000 + int(paper.arxiv[:2])) <= 2
    else:
        assert paper.url or paper.code
    assert "\n" not in str(paper) and str(paper).count(paper.title) == 1


def test_one_id_is_one_paper_and_one_title_one_id() -> None:
    by_id = {paper.arxiv: paper for _, paper in NAMED if paper.arxiv}
    by_title = {paper.title: paper for _, paper in NAMED}
    assert all(paper == by_id[paper.arxiv] for _, paper in NAMED if paper.arxiv)
    assert all(paper == by_title[paper.title] for _, paper in NAMED)


def _modules() -> dict[str, tuple[Paper, ...]]:
    """Modules that hold one method, and what it rests on."""
    found = {cls.__module__: papers_of(cls.paper) for cls in CLASSES if cls is not None}
    papers = _builders()
    for entry in BUILDERS.entries():
        found[entry.target.partition(":")[0]] = papers_of(papers[entry.name])
    for cls in ANSWERS.usable().values():
        found[cls.__module__] = papers_of(cls.paper)
    for cls in KINDS.usable().values():
        found[cls.__module__] = papers_of(cls.paper)
    for cls in SOFT_CONTEXTS.usable().values():
        found[cls.__module__] = papers_of(cls.paper)
    return found | {name: (getattr(import_module(name), MODULES[name]),) for name in MODULES}


@pytest.mark.parametrize(("module", "papers"), _modules().items())
def test_a_docstring_cites_its_papers_as_the_data_do(
    module: str, papers: tuple[Paper, ...]
) -> None:
    text = " ".join((inspect.getdoc(import_module(module)) or "").split())
    assert [paper.cite() for paper in papers if paper.cite() not in text] == []


def test_a_citation_is_one_line_with_what_is_known() -> None:
    paper = Paper("A Title", "Kaya et al.", 2024, arxiv="2301.00001", venue="ACL", code="https://c")
    assert str(paper) == 'Kaya et al., "A Title", ACL 2024, arXiv:2301.00001'
    assert paper.link == "https://arxiv.org/abs/2301.00001"
    preprint = replace(paper, arxiv=None, venue="")
    assert cite((paper, preprint)) == f'{paper}; Kaya et al., "A Title", 2024'
    assert preprint.link == "https://c" and replace(preprint, url="https://u").link == "https://u"
    assert replace(preprint, code="").link == "" and cite(None) == "no paper"


@pytest.mark.parametrize("arxiv", ["arXiv:2301.00001", "2301.1", "2313.00001", "2301.00001v2", ""])
def test_an_id_that_is_none_is_refused(arxiv: str) -> None:
    with pytest.raises(ValueError, match="is no arXiv id; write it as '2306.14048'"):
        Paper("A Title", "Kaya et al.", 2024, arxiv=arxiv)


@pytest.mark.parametrize(("title", "authors"), [("", "Kaya"), ("A Title", " ")])
def test_a_paper_without_title_or_authors_is_refused(title: str, authors: str) -> None:
    with pytest.raises(ValueError, match="neither may be empty"):
        Paper(title, authors, 2024)


@pytest.mark.parametrize("value", ["H2O (2023)", ["H2O"], ("H2O (2023)",), 2023, ""])
def test_text_in_place_of_a_paper_is_refused_with_what_to_write(value: object) -> None:
    with pytest.raises(TypeError, match=r"'paper' is no Paper: write paper = Paper\('the title'"):
        papers_of(value)


def test_the_command_lists_papers_as_a_line_and_as_data() -> None:
    result = CliRunner().invoke(command, ["layers", "--json"])
    said = json.loads(result.output)
    assert [Paper(**each) for each in said["papers"]] == list(registry.find("layers").paper)
    assert said["paper"] == cite(registry.find("layers").paper)
    assert cite(registry.find("kivi").paper) in CliRunner().invoke(command, ["kivi"]).output
