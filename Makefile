.PHONY: check help
check:  ## tests, lint, format, types: what CI runs
	bash .ci/run
help:  ## writes the texts that --help shows
	.venv/bin/python -m tasks.help
