# Every target sets up what it needs: nothing has to be installed by hand but git, make, Python >= 3.11 and pip.
PYTHON ?= python3
VENV   ?= .venv
RUN     = $(VENV)/bin/python
PIP     = $(PYTHON) -m pip --python $(RUN) --disable-pip-version-check
# Most tests wait for a server: more at once than there are cores.
JOBS   ?= 4
# Decides every draw and the order of the tests.
SEED   ?= 1
# Of the full size of the fault runs.
FAULTS ?= 1
PYTEST  = -n $(JOBS) --dist worksteal -p randomly --randomly-seed=$(SEED)
# Processes that tests start come up quicker; some machines switch it off.
export PYTHONDONTWRITEBYTECODE =
STAMP   = $(VENV)/.installed

.PHONY: help demo test faults test-under-load test-versions coverage servers check format bench-core bench-mq bench-sqs bench-kinesis clean
help:
	@echo 'make demo        the order shop on the embedded broker: no server needed'
	@echo 'make test        lint, types and all tests, with faults at a tenth of their size (11 minutes on 2 cores)'
	@echo 'make faults      the fault runs at full size (FAULTS=10 for longer ones)'
	@echo 'make test-under-load  make test beside eight busy processes'
	@echo 'make test-versions    the tests that need no server on CPython 3.12 and 3.13, where they are installed'
	@echo 'make coverage    the tests with the share of the code that they reach'
	@echo 'make check       lint and types only'
	@echo 'make bench-core  what a message costs, beside the floor and other frameworks'
	@echo 'make bench-mq    what a message costs on RabbitMQ and ActiveMQ, beside raw clients and frameworks'
	@echo 'make bench-sqs   what a message costs on SQS, beside loops written by hand'
	@echo 'make bench-kinesis  what a record costs on Kinesis, beside aiobotocore and async-kinesis'

# --without-pip: Debian ships no ensurepip with python3, and the outer pip can install into the environment.
$(VENV)/bin/python:
	$(PYTHON) -m venv --without-pip $(VENV)

$(STAMP)-%: pyproject.toml | $(VENV)/bin/python
	@echo 'installing into $(VENV) ...'
	@$(PIP) install --quiet --editable '.[all]' $$($(RUN) tools/group.py $*)
	@touch $@

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

# The checks run beside the tests, and it says how long it took.
test: $(STAMP)-check $(STAMP)-test servers
	$(RUN) tools/test.py $(PYTEST)

faults: $(STAMP)-test servers
	MSGBUS_TEST_FAULTS=$(FAULTS) $(RUN) -m pytest $(PYTEST) -m faults --durations=10

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

clean:
	rm -rf $(VENV) $(VENV)-* .coverage* .mypy_cache .pytest_cache .ruff_cache
