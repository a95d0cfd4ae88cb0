# Thin on purpose: each target is a line or two that you could type yourself (README.md, "Other machines").
PYTHON ?= python3
BIN := .venv/bin
SNAKEMAKE := $(BIN)/snakemake --snakefile workflow/Snakefile

.PHONY: report study draft published class setup test torture lab status gpu-check bench lessons clean

report: .venv/ready  ## eight runs, the analysis, report/report.html and report/report.pdf
	@$(SNAKEMAKE)

study: .venv/ready  ## three seeds and the control: about five times `make report`, whose runs it keeps
	@$(SNAKEMAKE) --config 'seeds=[0,1,2]' control=true

draft: .venv/ready  ## a report of what is there now, unfinished runs named: report/draft/
	@$(SNAKEMAKE) draft

published: PARAMETERS = {"runs": "$(abspath $(LOGS))", "audit_logs": "$(abspath $(LOGS))", "dataset": "Cityscapes", \
  "report_dir": "$(CURDIR)/report/published", "title": "One network, eight losses: the study from its own logs"}
published: .venv/ready  ## a report of the study's own logs: make published LOGS=folder
	@test -d "$(LOGS)" || { echo "no folder '$(LOGS)': name that of the logs (CSV files): make published LOGS=folder"; exit 1; }
	@$(BIN)/python workflow/execute.py published notebooks/analysis.ipynb report/published/analysis.ipynb \
	  '$(PARAMETERS)' --report report/published

class: CLASS = {"runs": "$(abspath $(FOLDER))", "report_dir": "$(CURDIR)/report/class", "title": "Runs of a class"}
class: .venv/ready  ## a report of several people's runs: make class FOLDER=handins (docs/class.md)
	@test -d "$(FOLDER)" || { echo "no folder '$(FOLDER)': name the one that holds theirs: make class FOLDER=handins"; exit 1; }
	@$(BIN)/python workflow/execute.py class notebooks/analysis.ipynb report/class/analysis.ipynb \
	  '$(CLASS)' --report report/class

setup: .venv/ready  ## only install

# A PyTorch that is already installed is used, not replaced: the system's, or that of the environment make is called in.
# What is there of the packages below is installed all the same, since their commands must lie in .venv/bin.
COMMANDS := codespell import-linter jupyter-core jupyterlab mypy nbconvert nbstripout papermill pre-commit pytest ruff \
  snakemake
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
.venv/ready: pyproject.toml
	@echo "Installing into .venv (about two minutes; without PyTorch installed, PyPI's build is several GB: see README)"
	@$(PYTHON) -m venv .venv
	@if $(PYTHON) -c "import torch, torchvision" 2>/dev/null; then \
	  $(PYTHON) -c "import sys; print(*(path for path in sys.path if path.endswith('-packages')), sep='\n')" \
	    > .venv/outer && \
	  mv .venv/outer "$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/outer.pth" && \
	  $(PIP) --no-deps --ignore-installed $(COMMANDS); fi
	@$(PIP) --editable ".[test]"
	@touch $@

test: .venv/ready  ## what proves the kit, but for `make torture`
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/codespell
	@$(BIN)/lint-imports --no-logo
	@$(BIN)/mypy
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2

torture: .venv/ready  ## the long fault run: fifty kills
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m torture

lab: .venv/ready  ## JupyterLab with the notebooks
	@$(BIN)/jupyter lab --notebook-dir . notebooks/train.ipynb

status: .venv/ready  ## where every run stands
	@$(BIN)/python -m deeplab_lib.study.status

gpu-check: .venv/ready  ## proves the kit on this machine's GPU in ten minutes: a table, and gpu-check.json to send
	@$(BIN)/python -m deeplab_lib.study.gpu_check --minutes 8

bench: .venv/ready  ## speed and memory against plain baselines
	@$(BIN)/python -m benchmarks

lessons:  ## build/lessons.zip: the kit to hand out, without the solutions' notebooks and typed answers
	@$(PYTHON) -m deeplab_lib.lessons.hand_out

clean:  ## generated files, but not runs/, report/ and data/
	@rm -rf .snakemake .pytest_cache .ruff_cache .mypy_cache .import_linter_cache build *.egg-info
	@find . -name __pycache__ -not -path "./.venv/*" -prune -exec rm -rf {} +
