# Every target sets up what it needs: nothing has to be installed by hand but git, make, Python >= 3.11 and pip.
PYTHON ?= python3
VENV   ?= .venv
RUN     = $(VENV)/bin/python
PIP     = $(PYTHON) -m pip --python $(RUN) --disable-pip-version-check
# Most tests wait for a server: more at once than there are cores.
JOBS   ?= 4
# Decides every draw and the order of the tests.
SEED   ?= 1
# Of fuzzing, for each decoder.
FUZZ_SECONDS ?= 5
# Of the full size of the fault runs.
FAULTS ?= 1
# Of the outbox under faults.
CHAOS_SECONDS ?= 120
# Seeds of the simulation: how many, or A..B.
SEEDS  ?= 500
PYTEST  = -n $(JOBS) --dist worksteal -p randomly --randomly-seed=$(SEED)
# Processes that tests start come up quicker; some machines switch it off.
export PYTHONDONTWRITEBYTECODE =
STAMP   = $(VENV)/.installed

.PHONY: help wheel docs demo newcomer test faults chaos simulate fuzz test-under-load test-versions coverage servers check format bench-codecs bench-core bench-mq bench-sqs bench-kinesis bench-outbox clean
help:
	@echo 'make demo        the order shop on the embedded broker: no server needed'
	@echo 'make wheel       dist/msgbus-*.whl, to install elsewhere'
	@echo 'make docs        the documentation with the API as a site, in dist/site'
	@echo 'make test        lint, types and all tests, with faults at a tenth of their size (11 minutes on 2 cores)'
	@echo 'make faults      the fault runs at full size (FAULTS=10 for longer ones)'
	@echo 'make chaos       the outbox with relays killed and frozen, database and broker killed (CHAOS_SECONDS=120)'
	@echo 'make simulate    the whole bus in 500 worlds that a seed draws (SEEDS=A..B for others; half a minute)'
	@echo 'make fuzz        every decoder of outside bytes on input that a seed spoils (FUZZ_SECONDS=5 each; 2 minutes)'
	@echo 'make newcomer    what a new user does, with the wheel in a fresh environment (3 minutes; needs a package index)'
	@echo 'make test-under-load  make test beside eight busy processes'
	@echo 'make test-versions    the tests that need no server on CPython 3.12 and 3.13, where they are installed'
	@echo 'make coverage    the tests with the share of the code that they reach'
	@echo 'make check       lint and types only'
	@echo 'make bench-codecs  what Avro costs, beside fastavro and pydantic'
	@echo 'make bench-core  what a message costs, beside the floor and other frameworks'
	@echo 'make bench-mq    what a message costs on RabbitMQ and ActiveMQ, beside raw clients and frameworks'
	@echo 'make bench-sqs   what a message costs on SQS, beside loops written by hand'
	@echo 'make bench-outbox  what the outbox costs on PostgreSQL and SQLite, beside the same by hand'
	@echo 'make bench-kinesis  what a record costs on Kinesis, beside aiobotocore and async-kinesis'

# --without-pip: Debian ships no ensurepip with python3, and the outer pip can install into the environment.
$(VENV)/bin/python:
	$(PYTHON) -m venv --without-pip $(VENV)

$(STAMP)-%: pyproject.toml | $(VENV)/bin/python
	@echo 'installing into $(VENV) ...'
	@$(PIP) install --quiet --editable '.[all]' $$($(RUN) tools/group.py $*)
	@touch $@

# pip fetches what builds it into an environment of its own.
wheel:
	@rm -f dist/*.whl
	$(PYTHON) -m pip --disable-pip-version-check wheel --quiet --no-deps --wheel-dir dist .
	@ls dist/*.whl

# In an environment of its own: it reads the sources, and needs none of what they import.
docs:
	@test -x $(VENV)-docs/bin/python || $(PYTHON) -m venv --without-pip $(VENV)-docs
	@$(PYTHON) -m pip --python $(VENV)-docs/bin/python --disable-pip-version-check install --quiet $$($(PYTHON) tools/group.py docs)
	NO_MKDOCS_2_WARNING=1 $(VENV)-docs/bin/python -m mkdocs build --strict
	@echo 'dist/site/index.html'

demo: $(STAMP)-demo
	$(RUN) -m examples.shop.demo

check: $(STAMP)-check $(STAMP)-test
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy
	$(RUN) -m pyright

# Servers that can't be installed here are said by the tests that need them, so a failure is no reason to stop.
servers: $(STAMP)-test
	-@$(RUN) -m tests.servers install
	-@$(RUN) -m tests.node

# The checks run beside the tests, and it says how long it took.
test: $(STAMP)-check $(STAMP)-test servers
	$(RUN) tools/test.py $(PYTEST)

faults: $(STAMP)-test servers
	MSGBUS_TEST_FAULTS=$(FAULTS) $(RUN) -m pytest $(PYTEST) -m faults --durations=10

chaos: $(STAMP)-test servers
	$(RUN) -m tests.chaos --seconds $(CHAOS_SECONDS) --seed $(SEED)

simulate: $(STAMP)-test
	$(RUN) -m tests.simulation --seeds $(SEEDS)

fuzz: $(STAMP)-test
	$(RUN) -m tests.fuzz --seconds $(FUZZ_SECONDS) --seed $(SEED)

# In an environment of its own, of the wheel and what the pages tell their readers to install: needs a package index.
newcomer: $(STAMP)-test servers wheel
	$(RUN) -m tests.newcomer dist/msgbus-*.whl $(PYTHON)

test-under-load: $(STAMP)-check $(STAMP)-test servers
	$(RUN) tools/busy.py 8 $(RUN) tools/test.py $(PYTEST)

# Measuring makes the tests slower, so it is not part of `make test`.
coverage: $(STAMP)-test servers
	$(RUN) -m coverage erase
	$(RUN) -m coverage run -m pytest $(PYTEST)
	$(RUN) -m coverage combine --quiet
	$(RUN) -m coverage report --fail-under 90

test-versions: $(STAMP)-test
	$(RUN) tools/versions.py 3.12 3.13

format: $(STAMP)-check
	$(RUN) -m ruff format .
	$(RUN) -m ruff check --fix .

bench-codecs: $(STAMP)-test
	$(RUN) -m benchmarks.payload_codecs

bench-core: $(STAMP)-test $(STAMP)-bench
	$(RUN) -m benchmarks.core

bench-mq: $(STAMP)-test $(STAMP)-bench
	$(RUN) -m tests.servers install rabbitmq activemq
	$(RUN) -m benchmarks.mq
	$(RUN) -m benchmarks.mq.stomp_rows

bench-sqs: $(STAMP)-test $(STAMP)-bench
	$(RUN) -m tests.servers install fauxqs ministack
	$(RUN) -m benchmarks.sqs

bench-kinesis: $(STAMP)-test $(STAMP)-bench
	$(RUN) -m tests.servers install ministack
	$(RUN) -m benchmarks.kinesis
	$(RUN) -m benchmarks.kinesis.balance

bench-outbox: $(STAMP)-test
	$(RUN) -m tests.servers install postgres
	$(RUN) -m benchmarks.outbox

clean:
	rm -rf dist $(VENV) $(VENV)-* .coverage* .mypy_cache .pytest_cache .ruff_cache
