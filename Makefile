# The commands of the repository. Each one sets up what it needs (setup/), once. What it downloads or compiles for
# that is kept in $FIRN_CACHE (~/.cache/firn), outside the checkout.

.DEFAULT_GOAL := help
MAKEFLAGS += --no-builtin-rules
.PHONY: help run backend unit test bench fuzz lint setup worker worker-release deploy-check clean

# The sources of the Worker. It is rebuilt when any of them changes.
worker_sources := Cargo.toml Cargo.lock setup/npm/package-lock.json $(shell find edge shared \
	\( -name target -o -name build -o -name node_modules -o -path edge/deploy \) -prune -o -type f -print)
worker := edge/build/index.js

help: ## list these commands
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1\t\2/p' $(MAKEFILE_LIST) | expand -t 16

run: ## start backend (127.0.0.1:8080) and edge (127.0.0.1:8787) on the bundled package set, until Ctrl-C
	@exec setup/run

backend: ## start the backend alone (127.0.0.1:8080)
	@exec setup/run backend

unit: ## run the tests that need nothing but Rust: no Nix, no daemon, no workerd
	@exec setup/unit

test: ## run every test, ending with the total
	@exec setup/test

bench: ## compare Firn with its peers, and print ratios; BENCH="edge …" runs only some of tests/bench
	@exec setup/bench $(BENCH)

fuzz: ## search for inputs that break parsers, for FUZZ_SECONDS (10) per target
	@exec setup/fuzz

lint: ## run every check that is not a test: format, clippy (native and wasm32), rustdoc, shellcheck, …
	@exec setup/lint

setup: ## install and cache all tools now instead of when first needed
	@set -e; for tool in compiler nix newer-nix clients s3-server bucket-servers wasm-target worker-tools node lint-tools package-set closures nginx binary-cache judges; do setup/$$tool >/dev/null; done

worker: $(worker) ## build the Worker into edge/build

$(worker): $(worker_sources)
	@set -e; for tool in compiler wasm-target worker-tools node; do setup/$$tool; done
	setup/wasm worker-build --profile edge edge
	@touch $@

worker-release: worker ## pack the built Worker into target/firn-edge, which wrangler deploys without Rust
	@setup/worker-release

deploy-check: worker ## check that the Worker and a release of it can be deployed, without deploying them
	@set -e; for environment in '' staging production; do \
		WRANGLER_SEND_METRICS=false setup/wasm wrangler deploy --dry-run --env "$$environment" \
			--outdir "target/deploy-check/$${environment:-development}"; \
	done
	@set -e; setup/worker-release target/deploy-check; for config in wrangler with-bucket; do \
		WRANGLER_SEND_METRICS=false setup/wasm wrangler deploy --dry-run --cwd target/deploy-check/firn-edge \
			--config "$$config.jsonc" --secrets-file firn.env.example; \
	done

clean: ## remove build results, but keep the state in .firn and the cache of tools
	rm -rf target edge/build .wrangler
