"""The workflows are YAML that GitHub reads, and call targets that the Makefile has."""

import re
from pathlib import Path

import pytest
import yaml

import ar_adals_tf

ROOT = Path(__file__).parents[1]
GITHUB = ROOT / ".github"
WORKFLOWS = sorted((GITHUB / "workflows").glob("*.yml"))
FORMS = sorted(GITHUB.glob("ISSUE_TEMPLATE/[!c]*.yml"))
TARGETS = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.M)[
    1
].split()
SETS = {path.stem for path in (ROOT / "tests" / "versions").glob("*.txt")}


def load(path):
    return yaml.safe_load(path.read_text())


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_workflows_call_the_makefile(path):
    workflow = load(path)
    assert {"name", True, "permissions", "jobs"} <= set(
        workflow
    )  # `on` is true in YAML
    called = re.findall(r"\bmake ([\w.${} -]+)", path.read_text())
    assert called
    for words in called:
        for word in words.replace("test-${{ matrix.set }}", "test-versions").split():
            assert word in TARGETS
    for job in workflow["jobs"].values():
        assert job["runs-on"] == "ubuntu-latest"
        assert all(("uses" in step) != ("run" in step) for step in job["steps"])


def test_all_sets_of_versions_are_tested_each_with_its_python():
    matrix = load(GITHUB / "workflows" / "tests.yml")["jobs"]["tests"]["strategy"]
    rows = matrix["matrix"]["include"]
    assert {row["set"] for row in rows} == SETS
    for row in rows:
        head = (ROOT / "tests" / "versions" / f"{row['set']}.txt").read_text()
        assert head.partition("\n")[0].endswith(f"Python {row['python']}")


def test_only_the_job_that_publishes_may_sign():
    jobs = load(GITHUB / "workflows" / "publish.yml")["jobs"]
    assert jobs["publish"]["permissions"] == {"id-token": "write"}
    assert jobs["publish"]["environment"] and "permissions" not in jobs["build"]
    assert "secrets" not in (GITHUB / "workflows" / "publish.yml").read_text()


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.stem)
def test_issue_forms_have_what_github_asks_for(path):
    form = load(path)
    assert form["name"] and form["description"]
    questions = [part for part in form["body"] if part["type"] != "markdown"]
    assert len({part["id"] for part in questions}) == len(questions)
    assert all(part["attributes"]["label"] for part in questions)


def test_the_bug_form_asks_for_versions_command_and_sentence():
    body = load(GITHUB / "ISSUE_TEMPLATE" / "bug.yml")["body"]
    needed = {p["id"] for p in body if p.get("validations", {}).get("required")}
    assert {"versions", "command", "said"} <= needed


def test_hooks_run_what_the_check_runs():
    hooks = load(ROOT / ".pre-commit-config.yaml")["repos"][0]["hooks"]
    check = (
        (ROOT / "Makefile").read_text().partition("\ncheck:")[2].partition("\n\n")[0]
    )
    for hook in hooks:
        tool = hook["entry"].split()[0].rpartition("/")[2]
        assert f"$(BIN)/{tool}" in check


def test_the_citation_is_of_this_version():
    citation = load(ROOT / "CITATION.cff")
    assert citation["version"] == ar_adals_tf.__version__
    assert citation["references"][0]["authors"][0]["family-names"] == "Qin"
