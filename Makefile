# `make demo` and `make test` are the only set-up: each makes what it needs first.

PYTHON ?= python3
BIN := .venv/bin
INSTALL := -m pip install --quiet --disable-pip-version-check -c constraints.txt
PIP := $(BIN)/python $(INSTALL)

.PHONY: demo fast test check soak sbom fuzz bench bench-gpu bench-streams photo-models bundle clean

demo: .venv/light
	$(BIN)/mekiki demo $(if $(FRAMES),--frames $(FRAMES))

# The unit tests: no broker, no other process, no model of torch; under a minute on two cores.
fast: .venv/full
	$(BIN)/python -m pytest --numprocesses $(or $(WORKERS),2) --dist loadfile tests/unit

test: .venv/full .venv-bare/ready
	tests/setup-services.sh
	$(BIN)/python -m pytest --numprocesses $(or $(WORKERS),3) --dist loadfile $(TESTS)

check: .venv/full
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/bandit --quiet --recursive agent camera adapters -ll --skip B608 # ruff's S608, with reasons
	$(BIN)/python -m tests.audit_dependencies

# Everything breaks, for so many minutes; e.g. make soak MINUTES=600.
soak: .venv/full
	tests/setup-services.sh
	$(BIN)/python -m tests.faults.soak --minutes $(or $(MINUTES),60)

# What a line PC runs, by name, version and licence, as CycloneDX.
sbom: .venv/full .venv-bare/ready
	mkdir -p out
	$(BIN)/python -m cyclonedx_py environment --pyproject pyproject.toml --of JSON -o out/sbom.cdx.json .venv-bare/bin/python

# Inputs that nobody would send, to everything that reads what others wrote; e.g. make fuzz INPUTS=1000000.
fuzz: .venv/full
	$(BIN)/python -m tests.fuzz --inputs $(or $(INPUTS),100000) --report

bench: .venv/full out/peers
	tests/setup-services.sh
	$(BIN)/python -m benchmarks.speed
	$(BIN)/python -m benchmarks.pipeline
	$(BIN)/python -m benchmarks.load
	$(BIN)/python -m benchmarks.beside
	$(BIN)/python -m benchmarks.swap
	$(BIN)/python -m benchmarks.false_reject_claims
	$(BIN)/python -m benchmarks.good_parts_only
	$(BIN)/python -m benchmarks.reload
	$(BIN)/python -m benchmarks.views
	$(BIN)/python -m benchmarks.open_clip_families --families
	$(BIN)/python -m benchmarks.backbone_cost
	$(BIN)/python -m benchmarks.reference_tokens --packages out/peers --most 60
	$(BIN)/python -m benchmarks.growth --most-stored 1000000
	$(BIN)/python -m benchmarks.peers
	$(BIN)/python -m benchmarks.prompt_length
	$(BIN)/python -m benchmarks.diff_attention
	$(BIN)/python -m benchmarks.bench_batclip --severity $(or $(SEVERITY),5)

# The figures of an NVIDIA card; OFFICIAL=<checkout of sarthaxxxxx/BATCLIP> adds the authors' update step.
bench-gpu: .venv/full
	$(BIN)/python -m benchmarks.gpu $(if $(OFFICIAL),--official $(OFFICIAL))

# What benchmarks.peers measures beside us, apart from our own; what cannot be had is left out there.
out/peers: benchmarks/peers.txt
	mkdir -p $@
	-$(BIN)/python -m pip install --quiet --disable-pip-version-check --target $@ --upgrade --no-deps -r $<
	touch $@

# The learner and its rivals on streams as a line makes them: hours for all of it. What is there stays in
# out/streams and is not run again; e.g. make bench-streams STREAMS="--streams S3 --seeds 1".
bench-streams: .venv/full
	$(BIN)/python -m benchmarks.bench_streams $(STREAMS)

# The models of bench_batclip, again; about an hour each on one core.
photo-models: .venv/full
	$(BIN)/python -m benchmarks.train_clip --kind clip --out out/train_clip --threads 2 --resume
	$(BIN)/python -m benchmarks.train_clip --kind diffclip --out out/train_clip --threads 2 --resume

# The shipped model bundle from its checkpoint; equal inputs and tools give an equal bundle.
bundle: .venv/full
	$(BIN)/python -m benchmarks.build_line_bundle

.venv/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Mekiki needs Python 3.11 or newer, this is " + sys.version)'
	$(PYTHON) -m venv .venv
	touch $@

.venv/light: .venv/python pyproject.toml constraints.txt
	$(PIP) -e '.[cpu,demo]'
	touch $@

.venv/full: .venv/light
	$(PIP) -e '.[cpu,openvino,demo,sparkplug,torch,dev]'
	touch $@

# What a line PC has: no torch. tests/system/agent/demo/test_bare.py learns there.
.venv-bare/ready: .venv/python pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv-bare
	.venv-bare/bin/python $(INSTALL) -e '.[cpu,demo]'
	touch $@

clean:
	rm -rf .venv .venv-bare build dist out
