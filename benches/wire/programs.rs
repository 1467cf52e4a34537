//! The programs that are measured, and the stand-in for MassGen: found where cargo puts them, built first by the very profile that
//! this program was built by.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};

/// Where they are.
pub(crate) struct Programs {
    pub(crate) server: PathBuf,
    pub(crate) bare: PathBuf,
    pub(crate) fake: PathBuf,
}

impl Programs {
    /// cargo builds the server along with a bench, but no examples.
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
