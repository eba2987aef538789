"""Laws of CI: the steps of our workflow and of the action, run in order in bash, end as the gate decides.

GitHub's own actions have stand-ins here. Environments see the packages of the one that runs these tests, so that pip
finds torch, but pip installs lstmq itself.
"""

import os
import shutil
import subprocess
import sys
import sysconfig
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from runs import MACHINE, make_environment, make_run, save_run
from workflow_steps import Runner, load, run_steps

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="needs flock and bash, as on the runners of these jobs"),
    pytest.mark.skipif(not torch.__version__.startswith("2.13.0"), reason="the steps install torch 2.13.0"),
]

CHECKOUT = Path(__file__).parents[2]
WORKFLOW = load(CHECKOUT / ".github/workflows/ci.yml")
NOT_NOISY = "size_ratio = { at_least = 1 }\n"
PYTEST = "#!/bin/sh\nexec {python} -P -c 'import pytest, sys; sys.exit(pytest.main())' \"$@\"\n"
# Runs the real Python. A new environment gets a path to the packages of this one, which has pip and setuptools, and the
# script of pytest.
PYTHON = """#!/bin/sh
[ "$1 $2" = "-m venv" ] || exec {python} "$@"
shift 2
{python} -m venv --without-pip "$@" || exit
for folder; do :; done
for packages in "$folder"/lib/python*/site-packages; do
  printf '%s\\n' {packages} > "$packages/tests.pth"
done
sed "s|{python}|$(realpath "$folder")/bin/python|" {bin}/pytest > "$folder/bin/pytest"
chmod +x "$folder/bin/pytest"
"""


def write_script(path, text):
    path.parent.mkdir(exist_ok=True)
    path.write_text(text, encoding="utf-8")
    path.chmod(0o755)


def copy_checkout(path):
    """Copy what CI needs of this checkout, without what earlier builds left in it."""
    for name in ("lstmq", "benchmarks", "data/sample"):
        shutil.copytree(CHECKOUT / name, path / name, ignore=shutil.ignore_patterns("__pycache__", "*.so", "study"))
    for name in ("LICENSE", "README.md", "action.yml", "pyproject.toml"):
        shutil.copy(CHECKOUT / name, path)
    return path


@pytest.fixture
def make_runner(tmp_path):
    """A function that returns a runner with an empty workspace, from its stand-ins and further variables."""

    def make(stand_ins, **variables):
        tool, bin_folder = tmp_path / "tool", tmp_path / "bin"
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tool)], check=True)
        own, of_tests = (
            tool / "lib" / f"python{sysconfig.get_python_version()}" / "site-packages",
            sysconfig.get_path("purelib"),
        )
        (own / "tests.pth").write_text(f"{of_tests}\n", encoding="utf-8")
        python = tool / "bin" / f"python{sysconfig.get_python_version()}"
        write_script(
            bin_folder / "python", PYTHON.format(python=python, packages=f"{own} {of_tests}", bin=tool / "bin")
        )
        write_script(tool / "bin" / "pytest", PYTEST.format(python=python))
        (tmp_path / "workspace").mkdir()
        return Runner(
            workspace=tmp_path / "workspace",
            temp=tmp_path / "temp",
            variables={
                "PATH": os.pathsep.join([str(bin_folder), str(tool / "bin"), os.environ["PATH"]]),
                "CC": "false",  # builds without kernels, in a few seconds
                "PIP_NO_COMPILE": "1",
                "PIP_NO_BUILD_ISOLATION": "0",  # pip reads 0 as: without isolation. It downloads setuptools otherwise.
                "PYTEST_ADDOPTS": "",
                "PYTEST_XDIST_WORKER": "",
                **variables,
            },
            stand_ins={"actions/setup-python": lambda inputs: inputs["python-version"], **stand_ins},
            contexts={"vars.PIP_EXTRA_INDEX_URL": os.environ.get("PIP_EXTRA_INDEX_URL", "")},
        )

    return make


@pytest.fixture
def short_session(tmp_path):
    """Options that make a session of the benchmarks short, and leave its outcome to figures without noise."""
    (tmp_path / "limits.toml").write_text(f"[int8]\n{NOT_NOISY}", encoding="utf-8")
    sample = CHECKOUT / "data/sample"
    options = ["--gate-limits", tmp_path / "limits.toml", "--gate-scheme=int8", "--gate-tokens=1000"]
    options += ["--gate-corpus", sample, "--gate-checkpoint", sample / "lstm.safetensors"]
    return " ".join(map(str, [*options, "--gate-looks=24", "--gate-blocks=24", "--gate-slices=1"]))


def run_job(runner, name):
    """Run the steps of a job of our workflow."""
    job = WORKFLOW["jobs"][name]
    run_steps(runner, job["steps"], {**WORKFLOW["env"], **job.get("env", {})})


def outcome_in(runner):
    """Return the outcome that the summary of a job names first."""
    assert runner.summary, runner.output
    return runner.summary.splitlines()[0].removeprefix("### lstmq: ")


# Our workflow.


def test_gate_job_ends_as_its_summary_says_and_keeps_the_run(make_runner, short_session):
    kept = []

    def upload(inputs):
        kept.extend(runner.workspace.glob(inputs["path"]))

    stand_ins = {"actions/checkout": lambda inputs: copy_checkout(runner.workspace), "actions/upload-artifact": upload}
    runner = make_runner(stand_ins, PYTEST_ADDOPTS=short_session)
    run_job(runner, "gate")
    *before, (gate, outcome), (_, upload_outcome) = runner.outcomes
    assert [result for _, result in before] == ["success"] * 3, runner.output
    assert "pytest benchmarks" in gate
    # On unchanged code, only noise can keep the gate from passing.
    found = outcome_in(runner)
    assert found in ("PASS", "INVALID"), runner.output
    assert outcome == ("success" if found == "PASS" else "failure"), runner.output
    assert upload_outcome == "success"
    assert kept == [runner.workspace / "run.json"]


def test_base_and_head_job_fails_if_int8_of_the_head_is_larger(make_runner, short_session):
    def checkout(inputs):
        """Copy the checkout. In the head, int8 models have more bytes."""
        path = copy_checkout(runner.workspace / inputs["path"])
        if inputs["path"] == "head":
            with (path / "lstmq/quantization/schemes.py").open("a", encoding="utf-8") as file:
                file.write(
                    "\n\nfrom dataclasses import replace\n\n\n"
                    "def _grow(model, quantize=SCHEMES['int8'].quantize):\n"
                    "    import torch\n\n"
                    "    model = quantize(model)\n"
                    "    model.register_buffer('ballast', torch.zeros(100_000))\n"
                    "    return model\n\n\n"
                    "SCHEMES['int8'] = replace(SCHEMES['int8'], quantize=_grow)\n"
                )
        else:
            assert inputs["ref"] == "of the base"

    runner = make_runner({"actions/checkout": checkout}, PYTEST_ADDOPTS=short_session)
    runner.contexts["github.event.pull_request.base.sha"] = "of the base"
    run_job(runner, "base-and-head")
    assert [outcome for _, outcome in runner.outcomes] == ["success"] * 4 + ["failure"], runner.output
    lines = runner.summary.splitlines()
    assert lines[0] == "### lstmq: FAIL", runner.output
    assert lines[2].startswith("**FAIL  int8 bytes "), runner.output
    assert lines[4].startswith("What to do: Find what differs between the two environments.")


def test_report_job_joins_the_runs_of_all_runners_by_processor(make_runner, tmp_path):
    machines = [
        replace(MACHINE, cpu=cpu, torch=version) for cpu in ("x86", "arm", "M1") for version in ("2.13.0", "2.15.0")
    ]
    kept = []

    def download(inputs):
        assert inputs["pattern"] == "runs-*"
        for number, machine in enumerate(machines):
            folder = runner.workspace / inputs["path"] / f"runs-{machine.cpu}" / machine.torch
            folder.mkdir(parents=True)
            save_run(folder / f"000{number}.json", make_run(make_environment(machine=machine)))

    stand_ins = {
        "actions/checkout": lambda inputs: copy_checkout(runner.workspace),
        "actions/download-artifact": download,
        "actions/upload-artifact": lambda inputs: kept.extend(runner.workspace.glob(inputs["path"])),
    }
    runner = make_runner(stand_ins)
    run_job(runner, "report")
    assert [outcome for _, outcome in runner.outcomes] == ["success"] * 6, runner.output
    assert kept == [runner.workspace / "report.html"]
    lines = runner.summary.splitlines()
    assert lines[0].startswith("**Upgrade to torch 2.15.0: every scheme passes its limits on 3 processors")
    assert [line for line in lines if line.startswith("### ")] == ["### M1 (avx2)", "### arm (avx2)", "### x86 (avx2)"]


# The action, in a project of its own.

MODEL = """
import torch
from torch import nn

from lstmq import Stream, Subject, Workload


class Tagger(nn.Module):
    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(500, 64)
        self.lstm = nn.LSTM(64, {width})
        self.tags = nn.Linear({width}, 20)

    def forward(self, words):
        return self.tags(self.lstm(self.words(words))[0])


def workload():
    torch.manual_seed(0)
    words = torch.randint(500, (1000, 1))
    subject = Subject(model=Tagger(), stream=Stream(inputs=words, targets=words % 20), origin="a tagger")
    return Workload(speed=subject, loss=subject)
"""


TEST = """
def test_float32(gate_judge):
    gate_judge("float32")


def test_scheme(gate_judge, gate_scheme):
    gate_judge(gate_scheme)
"""


@pytest.fixture
def run_action(make_runner, tmp_path):
    """A function that runs the steps of the action in a project, with these inputs, and returns its runner.

    The project is a checkout whose model has an LSTM of ``width``. In ``base`` is another one whose LSTM has 128 units.
    """

    def run(width, **inputs):
        runner = make_runner({}, PYTEST_ADDOPTS="--gate-looks=24 --gate-blocks=24 --gate-slices=1")
        for folder, units in ((runner.workspace, width), (runner.workspace / "base", 128)):
            (folder / "gate").mkdir(parents=True)
            (folder / "gate/mine.py").write_text(MODEL.format(width=units), encoding="utf-8")
        (runner.workspace / "gate/limits.toml").write_text(f"[int8]\n{NOT_NOISY}", encoding="utf-8")
        (runner.workspace / "gate/test_gate.py").write_text(TEST, encoding="utf-8")
        action = load(copy_checkout(tmp_path / "action") / "action.yml")
        values = {name: given.get("default", "") for name, given in action["inputs"].items()} | inputs
        runner.contexts |= {f"inputs.{name}": value for name, value in values.items()}
        runner.contexts |= {"github.action_path": str(tmp_path / "action"), "runner.temp": str(runner.temp)}
        run_steps(runner, action["runs"]["steps"], {})
        outputs = {name: runner.expand(output["value"]) for name, output in action["outputs"].items()}
        return runner, outputs

    return run


STEPS = ["actions/setup-python", "Install lstmq and torch", "Prepare the other side", "Gate"]


def test_action_judges_by_limits_and_returns_the_verdict_and_the_report(run_action):
    runner, outputs = run_action(128)
    found = outcome_in(runner)
    assert found in ("PASS", "INCONCLUSIVE", "INVALID"), runner.output  # only noise keeps it from passing
    ends = ["success", "success", "skipped", "success" if found == "PASS" else "failure"]
    assert runner.outcomes == [*zip(STEPS, ends, strict=True)], runner.output
    assert outputs["verdict"] == found
    assert '<p class="advice">Measure another torch to compare' in Path(outputs["report"]).read_text(encoding="utf-8")


def test_action_fails_if_the_model_in_this_checkout_is_larger_or_cannot_be_measured(run_action):
    """Each side runs its own file, so a change in the model's code is seen."""
    runner, outputs = run_action(192, against="base")
    assert runner.outcomes == [*zip(STEPS, ["success", "success", "success", "failure"], strict=True)], runner.output
    assert outputs["verdict"] == outcome_in(runner) == "FAIL", runner.output
    assert "int8 bytes" in runner.summary
    assert Path(outputs["report"]).is_file()
    # The same step with another input, where nothing can be measured.
    runner.outcomes.clear()
    runner.contexts["inputs.workload"] = "gate/nowhere.py:workload"
    run_steps(runner, load(CHECKOUT / "action.yml")["runs"]["steps"][-1:], {})
    assert runner.outcomes[-1] == ("Gate", "failure"), runner.output
    assert runner.contexts["steps.gate.outputs.verdict"] == "NOT MEASURED"
    assert runner.contexts["steps.gate.outputs.report"] == ""
    assert "nowhere.py" in runner.output
