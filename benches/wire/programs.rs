//! The programs to measure and the stand-in for MassGen, in cargo's target folder. They are built first, with the same profile as this
//! program.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};

/// The paths of the programs.
pub(crate) struct Programs {
    pub(crate) server: PathBuf,
    pub(crate) bare: PathBuf,
    pub(crate) fake: PathBuf,
}

impl Programs {
    /// Builds the examples; cargo builds only the server together with a bench.
    pub(crate) fn build() -> anyhow::Result<Programs> {
        let server = PathBuf::from(env!("CARGO_BIN_EXE_massgen-mcp"));
        let folder = server.parent().context("the folder of a build")?;
        let examples = folder.join("examples");
        let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args([
            "build",
            "--release",
            "--locked",
            "--quiet",
            "--example",
            "bare-server",
            "--example",
            "fake-massgen",
        ]);
        cargo.arg("--manifest-path").arg(manifest);
        cargo.arg("--target-dir").arg(folder.parent().context("the target folder")?);
        let built = cargo.stdout(Stdio::null()).status().context("cargo")?;
        ensure!(built.success(), "the stand-ins do not build");
        Ok(Programs { bare: examples.join("bare-server"), fake: examples.join("fake-massgen"), server })
    }
}
