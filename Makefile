# make lab opens the course, make test checks all of it; both set themselves up first
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
NOTEBOOKS := $(wildcard notebooks/[0-9]*.ipynb)
# two threads a worker would make torch five times slower
ONE_THREAD := OMP_NUM_THREADS=1
PYTEST := $(ONE_THREAD) $(BIN)/python -m pytest $(if $(REPORT),--junitxml=$(REPORT))
# in the order of tests/conftest.py
PARALLEL := -n auto --dist loadfile --no-loadscope-reorder
NBVAL := --nbval --nbval-current-env --nbval-cell-timeout=300 --nbval-sanitize-with=tests/sanitize.cfg
# these have targets of their own, which install what they need
WITHOUT_EXTRAS := --ignore=tests/classroom --ignore=tests/browser

.PHONY: lab test quick again slow versions check bind notebooks results requirements bench release grade classroom browser front site clean

$(READY): requirements.txt requirements-models.txt pyproject.toml .ci/setup
	@sh .ci/setup "$(PYTHON)" "$(VENV)"
	@touch $@

lab: $(READY)
	@$(BIN)/python -m kdcourse lab $(LAB)

test: $(READY)
	$(PYTEST) $(PARALLEL) $(NBVAL) $(WITHOUT_EXTRAS) -m "not slow"

# without the notebooks
quick: $(READY)
	$(PYTEST) $(PARALLEL) $(WITHOUT_EXTRAS) -m "not slow" tests

# on another Python (PYTHON, VENV), without what it cannot change (tests/once.py)
again: $(READY)
	$(PYTEST) $(PARALLEL) $(WITHOUT_EXTRAS) -m "not slow and not once" tests

slow: $(READY)
	$(PYTEST) $(PARALLEL) -m slow tests

# every Python of this machine; the package alone with the oldest and the newest torch
versions:
	@$(PYTHON) .ci/versions.py

check: $(READY)
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy

# what the notebooks say, and what holds it
bind: $(READY)
	$(BIN)/python .ci/bind.py $(or $(NOTEBOOK),$(patsubst notebooks/%,%,$(foreach path,$(NOTEBOOKS),$(firstword $(subst _, ,$(path))))))

notebooks: $(READY)
	$(ONE_THREAD) $(BIN)/python .ci/execute.py $(NOTEBOOKS)

JOBS := $(or $(JOB),$(patsubst data/results/%.py,%,$(filter-out %/store.py,$(wildcard data/results/*.py))))
results: $(READY)
	@for job in $(JOBS); do $(BIN)/python data/results/$$job.py || exit 1; done

bench: $(READY)
	$(ONE_THREAD) $(BIN)/python tests/bench_distill.py
	$(ONE_THREAD) $(BIN)/python tests/bench_explorers.py
	$(ONE_THREAD) $(BIN)/python tests/bench_losses.py

# nbgrader comes on top of the pinned packages, for instructors alone
$(VENV)/.classroom: $(READY)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c requirements.txt --editable '.[classroom]'
	@touch $@

release: $(VENV)/.classroom
	@$(BIN)/python -m kdcourse release $(or $(TO),build/class) $(if $(AGAIN),--again)

# make grade ASSIGNMENT=03 [STUDENT=ada] [AGAIN=1] [TO=folder of make release]
grade: $(VENV)/.classroom
	@test -n "$(ASSIGNMENT)" || { echo "kdcourse: which one? make grade ASSIGNMENT=03" >&2; exit 1; }
	@$(BIN)/python -m kdcourse grade $(ASSIGNMENT) $(foreach student,$(STUDENT),--student $(student)) \
	  $(if $(AGAIN),--again) --course $(or $(TO),build/class)/nbgrader

classroom: $(VENV)/.classroom
	$(PYTEST) $(PARALLEL) tests/classroom

$(VENV)/.browser: $(READY)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c requirements.txt --editable '.[browser]'
	@touch $@

# a notebook with all its tests to a process: tests/browser/conftest.py
browser: $(VENV)/.browser
	KDCOURSE_BROWSER=1 $(PYTEST) $(PARALLEL) tests/browser

# README's figures, and its table in notebook 00
front: $(READY)
	$(ONE_THREAD) $(BIN)/python .ci/front.py

$(VENV)/.site: $(READY)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c requirements.txt --editable '.[site]'
	@touch $@

# MathJax for the pages and axe for their tests, exactly as locked
build/site-npm/.ready: .ci/site/package.json .ci/site/package-lock.json
	@command -v npm >/dev/null || { echo "kdcourse: the site needs npm, which brings MathJax (Debian, Ubuntu: apt install npm)." >&2; exit 1; }
	@mkdir -p $(@D) && cp $^ $(@D) && cd $(@D) && npm ci --silent --no-audit --no-fund
	@touch $@

# the pages are the stored outputs: no notebook is run
site: $(VENV)/.site build/site-npm/.ready
	@rm -rf build/site && $(ONE_THREAD) $(BIN)/python .ci/site/stage.py
	@$(ONE_THREAD) $(BIN)/python -m sphinx --quiet --fail-on-warning --keep-going --fresh-env -c .ci/site \
	  -d build/site-doctrees build/site-source build/site
	@echo "build/site/index.html is the start page"

# torch pins its own CUDA packages, so they stay out: a CPU-only torch must not pull them in
requirements: $(READY)
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/python -m uv pip compile --quiet --universal --python-version 3.11 --no-header --no-annotate \
	  --extra course --extra dev pyproject.toml \
	  | grep -vE '^(nvidia-|cuda-|triton)' > requirements.part && mv requirements.part requirements.txt

clean:
	rm -rf $(VENV) build dist *.egg-info
