# Everything needs no more than Python 3.11+ with venv, pip, make and git. `make report` and `make test` are the two
# commands; each sets up .venv the first time.
PYTHON ?= python3
DATA ?=
CHECKPOINT ?=
OUTPUT ?=

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# the command line's options from the variables that were given
OPTIONS = $(if $(DATA),--data "$(DATA)") $(if $(CHECKPOINT),--checkpoint "$(CHECKPOINT)") $(if $(OUTPUT),--output-dir "$(OUTPUT)")

.PHONY: help setup report results gradcam infer view lab docs test test-slow test-notebooks test-clean constraints readme clean

help:
	@echo "make report     every report and inference into results/own/NAME/, which git does not see"
	@echo "                (DATA=folder CHECKPOINT=file for your own, OUTPUT=folder for another place)"
	@echo "make gradcam    the galleries and the annotation report"
	@echo "make infer      inference"
	@echo "make view       the view in the browser"
	@echo "make lab        open the notebooks in JupyterLab"
	@echo "make docs       the documentation as a site into _docs/"
	@echo "make results    the stored reports of the example in results/, for whoever changed what they show"
	@echo "make test       all tests, small; make test-slow: full sizes"

setup: $(READY)

$(READY): settings.ini setup.py constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed: make PYTHON=python3.12 ..."; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { echo "Python's venv is missing; on Debian and Ubuntu: apt install python3-venv"; rm -rf $(VENV); exit 1; }
	@echo "Installing into $(VENV): about 3 GB to download the first time, some minutes without further words"
	$(BIN)/python -m pip install --quiet --progress-bar on --disable-pip-version-check -e '.[dev,compiled,dicom,export,ray,view]' -c constraints.txt
	@touch $(READY)

report: setup
	$(BIN)/xray-explain report $(OPTIONS)

# the only command that changes what is stored of the example; without seconds, which are others in every run
results: setup
	$(BIN)/xray-explain report --output-dir results --set timing=false

gradcam: setup
	$(BIN)/xray-explain report gallery annotation $(OPTIONS)

infer: setup
	$(BIN)/xray-explain report inference $(OPTIONS)

view: setup
	$(BIN)/xray-explain view $(if $(DATA),--data "$(DATA)") $(if $(CHECKPOINT),--checkpoint "$(CHECKPOINT)")

lab: setup
	$(BIN)/jupyter lab --notebook-dir nbs --KernelManager.transport_encryption=auto

docs: setup
	$(BIN)/python tools/build_site.py

# nbdev_export and nbdev_clean must find nothing to do
test-clean: setup
	$(BIN)/python tests/check_clean.py

# processes of one thread each do not wait for one another
test-notebooks: setup
	OMP_NUM_THREADS=1 PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/nbdev_test --n_workers 2 --do_print

test: test-clean test-notebooks
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -m "not slow" -n 2 --dist loadfile

test-slow: test-clean
	OMP_NUM_THREADS=1 PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/nbdev_test --n_workers 2 --do_print --flags slow
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 --dist loadfile

# today's newest versions for Linux and macOS, Python 3.11 to 3.13
constraints: setup
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip compile setup.py --extra dev --extra compiled --extra dicom --extra export --extra ray --extra view --universal --python-version 3.11 --upgrade --no-header --no-annotate -o constraints.txt

clean:
	rm -rf $(VENV) build dist *.egg-info _docs _proc

# nbs/index.ipynb is the source; pictures are named from the repository's root
readme: setup
	$(BIN)/jupyter nbconvert --to markdown --stdout --log-level WARN --TagRemovePreprocessor.enabled=True \
		--TagRemovePreprocessor.remove_cell_tags hide nbs/index.ipynb | sed 's#(\.\./results#(results#g; s#(images/#(nbs/images/#g' > README.md
