# What a newcomer needs: `just demo` and `just test`. `just` alone lists everything.

set shell := ["bash", "-euo", "pipefail", "-c"]

arch := arch()
stage := justfile_directory() / "target/stage"

# List the recipes
default:
    @just --list --unsorted

# Build, then profile this machine for five seconds with the embedded defaults
demo: stage
    {{stage}}/bin/autoprof run -- sleep 5

# Run every test; installs first what they need and is missing
test: setup stage
    AUTOPROF_STAGE={{stage}} cargo test --workspace --quiet

# Check style, lints, documentation, licences and scripts
lint: setup
    cargo fmt --all --check
    cargo clippy --workspace --all-targets --quiet -- -D warnings
    RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --quiet
    command -v cargo-deny >/dev/null || cargo install --locked --quiet cargo-deny
    cargo deny --log-level error check bans licenses sources
    shellcheck scripts/*.sh .ci/run

# Ask the advisory database, which needs the network, about the dependencies
advisories:
    cargo deny check advisories

# Install what the tests need (OpenSSH, sysstat, procps, perf, fish, tcsh, shellcheck)
setup:
    scripts/setup.sh

# Build everything optimised
build: (client arch)
    cargo build --release --workspace --exclude autoprof-client --exclude autoprof-tests

# Build the client for hosts of an architecture (x86_64, aarch64)
client ARCH=arch:
    scripts/client.sh {{ARCH}}

# Install into PREFIX: bin/, lib/autoprof/plugins/, lib/autoprof/clients/; the tree works from anywhere
install PREFIX: build
    scripts/install.sh release "{{PREFIX}}"

# The same tree from an unoptimised build, for demo and tests
stage: (client arch)
    cargo build --quiet --workspace --exclude autoprof-client --exclude autoprof-tests
    scripts/install.sh debug {{stage}}

# Measure against peers that are there, and print one table
bench *ARGS: build
    scripts/install.sh release {{justfile_directory()}}/target/bench-stage
    AUTOPROF_STAGE={{justfile_directory()}}/target/bench-stage cargo run --release --quiet -p autoprof-tests --bin bench -- {{ARGS}}
