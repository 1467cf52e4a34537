# Everyday commands. `just` lists them. Needs just 1.13 or newer (`apt-get install just` on Debian 13 and Ubuntu 24.04, or `cargo install just`).

# Shows this list.
_list:
    @just --list --unsorted

# Format, lints and unit tests: before each commit.
quick:
    cargo fmt --check
    cargo clippy --locked --all-targets -- -D warnings
    cargo test --locked --lib --quiet

# All checks, as CI runs them, with the time of each stage.
full:
    .ci/run

# Unit tests whose path contains FILTER: just unit massgen::prices
unit FILTER="":
    cargo test --locked --lib -- '{{FILTER}}'

# Integration tests whose path contains FILTER: just it steering::
it FILTER: _stand-in
    #!/usr/bin/env sh
    set -eu
    if cargo nextest --version >/dev/null 2>&1; then
      cargo nextest run --locked --test it -- '{{FILTER}}'
    else
      cargo test --locked --test it -- '{{FILTER}}'
    fi

# Formats the code.
fmt:
    cargo fmt

# Writes what tests compare with: the tool list, and the tables in README.md and docs/. Read the diff.
golden:
    UPDATE_GOLDEN=1 cargo test --locked --lib --quiet -- server::tools
    UPDATE_GOLDEN=1 cargo test --locked --test it --quiet -- architecture:: providers::the_table examples::the_snippets
    git diff --stat

# The documentation of the code, private items included.
docs:
    RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps --document-private-items

# Licences, sources and known vulnerabilities of the dependencies.
deny:
    scripts/deny

# A whole run of real MassGen with a scripted model: no key, no cost.
demo:
    cargo run --locked -- demo

# One call of a tool by the MCP Inspector (needs Node 20 and npm), with a state folder in target/: just call check_status '{}'
call TOOL ARGUMENTS="{}":
    #!/usr/bin/env sh
    set -eu
    cargo build --locked --quiet
    # Installs MassGen where there is none; tests use the same one.
    massgen=$(target/debug/massgen-mcp setup | sed -n 's/^MassGen .* is at //p')
    inspector=@modelcontextprotocol/inspector
    version=$(node -p "require('./tests/clients/package.json').devDependencies['$inspector']")
    npx --yes --loglevel=error "$inspector@$version" --cli --method tools/call --tool-name '{{TOOL}}' --tool-args-json '{{ARGUMENTS}}' \
      -- target/debug/massgen-mcp --home "$PWD/target/call" --massgen "$massgen"

# The shipped program under real clients (needs npm; some minutes).
clients *NAMES:
    scripts/clients {{NAMES}}

# Mutation tests of the pure core, or only of these files of it (docs/mutants.md): just mutants src/supervisor/plan.rs
mutants *FILES:
    scripts/mutants {{FILES}}

# Benchmarks: wire (the server over its pipes), pure (what is computed) or massgen (whole runs).
bench NAME="pure":
    cargo bench --locked --bench '{{NAME}}'

# A thousand runs with kills and dying servers.
soak:
    cargo run --locked --example soak -- 1000 50

# The scripted stand-in for MassGen, which `cargo test --test it` does not build.
_stand-in:
    cargo build --locked --quiet --example fake-massgen
