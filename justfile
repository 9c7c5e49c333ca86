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

# Starve this machine and see that sampling survives it (as root; alone, since it starves other tests too)
starve-test: setup stage
    AUTOPROF_STAGE={{stage}} cargo test -p autoprof-tests --test e2e --quiet -- --ignored sampling_survives

# Run the end-to-end suite over the transport openssh, or the modules that are named (hosts:: faults:: secrets:: ...)
test-openssh *ARGS: setup stage
    AUTOPROF_STAGE={{stage}} AUTOPROF_TEST_TRANSPORT=openssh cargo test -p autoprof-tests --test e2e --quiet -- {{ARGS}}

# Check style, lints, documentation, licences and scripts
lint: setup
    cargo fmt --all --check
    cargo clippy --workspace --all-targets --quiet -- -D warnings
    RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --quiet
    command -v cargo-deny >/dev/null || cargo install --locked --quiet cargo-deny
    cargo deny --log-level error check bans licenses sources
    shellcheck scripts/*.sh tests/vm/*.sh docs/examples/*/src/*.sh .ci/run

# Ask the advisory database, which needs the network, about the dependencies
advisories:
    cargo deny check advisories

# Compare the crates that plugins and programs are built against with those of a tag (the last one)
semver TAG=`git describe --tags --abbrev=0 2>/dev/null || true`:
    @[ -n "{{TAG}}" ] || { echo "semver: there is no tag yet to compare with" >&2; exit 1; }
    command -v cargo-semver-checks >/dev/null || cargo install --locked --quiet cargo-semver-checks
    cargo semver-checks --baseline-rev {{TAG}} -p autoprof-core -p autoprof-plugin -p autoprof-protocol

# Build the golden plugin against the sources of a tag or commit, and run it in today's autoprof
compat REVISION: stage
    scripts/compat.sh {{REVISION}}

# Install what the tests need (OpenSSH, sysstat, procps, perf, tracers, shells, NATS, Mosquitto, Chromium, shellcheck)
setup:
    scripts/setup.sh

# Build everything optimised
build: (client arch) (relay arch)
    cargo build --release --workspace --exclude autoprof-client --exclude autoprof-relay --exclude autoprof-tests

# Build the client for hosts of an architecture (x86_64, aarch64)
client ARCH=arch:
    scripts/client.sh {{ARCH}}

# Build the program that joins clients to a NATS server, for hosts of an architecture
relay ARCH=arch:
    scripts/client.sh {{ARCH}} autoprof-relay

# Install into PREFIX: bin/, lib/autoprof/plugins/, lib/autoprof/clients/; the tree works from anywhere
install PREFIX: build
    scripts/install.sh release "{{PREFIX}}"

# Pack a release into target/dist: a tarball and a Debian package, each with its SHA-256
dist: build
    scripts/dist.sh

# The same tree from an unoptimised build, for demo and tests
stage: (client arch) (relay arch)
    cargo build --quiet --workspace --exclude autoprof-client --exclude autoprof-relay --exclude autoprof-tests
    scripts/install.sh debug {{stage}}

# Compare how ssh_config is read with `ssh -G`, over COUNT generated configurations of a random seed
ssh-config-test COUNT="20000" SEED=`od -An -N6 -tu8 /dev/urandom | tr -d ' '`: setup
    SSH_CONFIG_COUNT={{COUNT}} SSH_CONFIG_SEED={{SEED}} cargo test --quiet -p autoprof-transport-ssh --lib \
        ssh_config::differential -- --nocapture

# Look for bytes that break a reader (archive control convert events hosts job note), beginning from fuzz/corpus
fuzz TARGET SECONDS="60":
    command -v cargo-fuzz >/dev/null || cargo install --locked --quiet cargo-fuzz
    mkdir -p fuzz/target/found/{{TARGET}}
    cp Cargo.lock fuzz/
    ASAN_OPTIONS=quarantine_size_mb=64 RUSTC_BOOTSTRAP=1 cargo fuzz run {{TARGET}} fuzz/target/found/{{TARGET}} fuzz/corpus/{{TARGET}} -- \
        -max_total_time={{SECONDS}} -timeout=20 -rss_limit_mb=1024 -malloc_limit_mb=256 -max_len=8192 -entropic_scale_per_exec_time=1

# Compare COUNT inventories by chance with what Ansible makes of them
inventory-test COUNT="5000" SEED=`date +%s`: setup
    INVENTORY_COUNT={{COUNT}} INVENTORY_SEED={{SEED}} cargo test --quiet -p autoprof-core --test inventory -- --nocapture

# Inject faults into runs, with options such as --runs 200 --seed 7 --fault reboot (as root, for hosts in namespaces)
torture *ARGS: setup stage
    AUTOPROF_STAGE={{stage}} cargo run --quiet -p autoprof-tests --bin torture -- {{ARGS}}

# Measure against peers that are there, and print one table
bench *ARGS: build
    scripts/install.sh release {{justfile_directory()}}/target/bench-stage
    AUTOPROF_STAGE={{justfile_directory()}}/target/bench-stage cargo run --release --quiet -p autoprof-tests --bin bench -- {{ARGS}}

# Reboot, reset and cut the power of a virtual machine under autoprof (minutes; builds its disk first, as root)
reboot-test *SCENARIOS: stage
    AUTOPROF_STAGE={{stage}} cargo run --quiet -p autoprof-tests --bin reboot-test -- {{SCENARIOS}}

# Run every profiler on the userlands of other systems (debian-11 … debian-sid, busybox, …); builds them first, as root
distro-test *HOSTS: setup stage
    AUTOPROF_STAGE={{stage}} cargo run --quiet -p autoprof-tests --bin distro-test -- {{HOSTS}}

# Profile an emulated aarch64 machine (minutes; builds its disk, the client and the relay first)
arm-test *SCENARIOS: stage
    tests/vm/setup.sh aarch64
    scripts/client.sh aarch64
    scripts/client.sh aarch64 autoprof-relay
    scripts/install.sh debug {{stage}}
    AUTOPROF_STAGE={{stage}} cargo run --quiet -p autoprof-tests --bin reboot-test -- --arch aarch64 {{SCENARIOS}}
