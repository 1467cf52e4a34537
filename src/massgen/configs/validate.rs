//! What MassGen itself reports about a config (`massgen --validate FILE --json`), cached by content and version, and what it omits. It runs
//! no agent and repeats no check of MassGen; the caller names the cache folder.

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::process::Command;

use crate::massgen::reasons::{self, RunOutput};
use crate::massgen::{broken_import, environment, text};
use crate::run::Problem;

/// The timeout for MassGen; its import takes 8 s on an idle machine and 50 s on a loaded one.
const VALIDATE_TIMEOUT: Duration = Duration::from_secs(120);
/// The most findings of each kind that are kept.
const MAX_FINDINGS: usize = 10;
/// The longest text of a finding, in characters.
const MAX_TEXT_CHARS: usize = 300;

/// Why MassGen could not check a config.
#[derive(Debug, thiserror::Error)]
pub enum ValidateError {
    /// The program could not be started, or its output could not be read.
    #[error("cannot execute `{}`", program.display())]
    Execute {
        /// The program.
        program: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// It did not end in time.
    #[error("`{}` did not say anything about the config within {} s", program.display(), VALIDATE_TIMEOUT.as_secs())]
    TimedOut {
        /// The program.
        program: PathBuf,
    },
    /// Its output was not JSON.
    #[error("`{}` said something else than it should about the config: {said}", program.display())]
    InvalidOutput {
        /// The program.
        program: PathBuf,
        /// Its output in one line: the end of standard error if standard output was empty.
        said: String,
    },
    /// MassGen cannot be imported.
    #[error("{}", .0.message)]
    BrokenImport(Box<Problem>),
    /// The config could not be read.
    #[error("cannot read `{}`", path.display())]
    Read {
        /// The config.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
}

/// A fault in a config.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The fault, in one line of at most 300 characters.
    pub message: String,
    /// Its place in the config, such as `agents[0].backend`; may be empty.
    pub location: String,
    /// How to fix it.
    pub suggestion: Option<String>,
}

/// The findings, the first ten of each kind.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ValidationReport {
    /// Findings that prevent a start.
    pub errors: Vec<Finding>,
    /// Findings that do not prevent a start.
    pub warnings: Vec<Finding>,
    /// The total number of errors.
    pub error_count: usize,
    /// The total number of warnings.
    pub warning_count: usize,
}

impl ValidationReport {
    /// Whether nothing prevents a start.
    pub fn is_valid(&self) -> bool {
        self.error_count == 0
    }

    fn add_error(&mut self, finding: Finding) {
        self.error_count += 1;
        if self.errors.len() < MAX_FINDINGS {
            self.errors.push(finding);
        }
    }
}

/// Which MassGen checks which config, and where the results are cached.
#[derive(Debug, Clone, Copy)]
pub struct ValidationRequest<'a> {
    /// MassGen.
    pub program: &'a Path,
    /// Its version; without one, results are not cached.
    pub version: Option<&'a str>,
    /// The config; MassGen recognizes the format by the extension.
    pub config: &'a Path,
    /// MassGen's working folder: relative paths in the config start here.
    pub folder: &'a Path,
    /// The cache folder; it is created if missing.
    pub cache: &'a Path,
}

impl ValidationRequest<'_> {
    /// The arguments for MassGen.
    pub fn args(&self) -> Vec<OsString> {
        vec!["--validate".into(), self.config.into(), "--json".into()]
    }
}

/// What MassGen reports about a config: the cached result for the same text, else the output of `sooner` for [`ValidationRequest::args`],
/// else the output of a new MassGen process, which takes a whole import. `sooner` is called only if needed and returns `None` if no such
/// output is available. A cache that cannot be used is skipped.
pub async fn validate(
    question: ValidationRequest<'_>,
    warm_output: impl Future<Output = Option<Vec<u8>>>,
) -> Result<ValidationReport, ValidateError> {
    let read = |source| ValidateError::Read { path: question.config.to_owned(), source };
    let content = tokio::fs::read(question.config).await.map_err(read)?;
    let cache_path =
        question.version.map(|version| question.cache.join(cache_name(&content, version, question.config)));
    if let Some(report) = cache_path.as_deref().and_then(read_cached) {
        return Ok(report);
    }
    let warm_report = warm_output.await.and_then(|out| parse_output(&String::from_utf8_lossy(&out)));
    let report = match warm_report {
        Some(report) => report,
        None => run_validate(question).await?,
    };
    if let Some(cache_path) = cache_path {
        let _cached = write_cached(&cache_path, &report);
    }
    Ok(report)
}

/// The extension is part of the key: it decides whether MassGen reads the text as YAML or as JSON.
fn cache_name(content: &[u8], version: &str, config: &Path) -> String {
    let ending = config.extension().map(|ending| ending.to_ascii_lowercase()).unwrap_or_default();
    let mut hash = Sha256::new();
    for part in [version.as_bytes(), ending.as_encoded_bytes(), content] {
        hash.update(part.len().to_le_bytes());
        hash.update(part);
    }
    let hex: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{hex}.json")
}

fn read_cached(path: &Path) -> Option<ValidationReport> {
    parse_report(&serde_json::from_slice(&std::fs::read(path).ok()?).ok()?)
}

/// Written atomically and readable only by the owner: a message may quote the config.
fn write_cached(path: &Path, report: &ValidationReport) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    let folder = path.parent().unwrap_or(Path::new("."));
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let mut draft = tempfile::Builder::new().prefix(".draft-").tempfile_in(folder)?;
    draft.write_all(report_to_json(report).to_string().as_bytes())?;
    draft.persist(path)?;
    Ok(())
}

fn report_to_json(report: &ValidationReport) -> Value {
    let list = |findings: &[Finding]| -> Vec<Value> {
        let finding_json = |found: &Finding| json!({"message": found.message, "location": found.location, "suggestion": found.suggestion});
        findings.iter().map(finding_json).collect()
    };
    json!({
        "valid": report.is_valid(),
        "error_count": report.error_count,
        "warning_count": report.warning_count,
        "errors": list(&report.errors),
        "warnings": list(&report.warnings),
    })
}

async fn run_validate(question: ValidationRequest<'_>) -> Result<ValidationReport, ValidateError> {
    let program = || question.program.to_owned();
    let mut command = Command::new(question.program);
    command.args(question.args()).current_dir(question.folder);
    command.env_clear().envs(environment::select(std::env::vars_os(), &[]));
    command.env("LITELLM_LOCAL_MODEL_COST_MAP", "True").stdin(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(VALIDATE_TIMEOUT, command.output()).await;
    let answer = output.map_err(|_| ValidateError::TimedOut { program: program() })?;
    let answer = answer.map_err(|source| ValidateError::Execute { program: program(), source })?;
    let out = String::from_utf8_lossy(&answer.stdout);
    parse_output(&out).ok_or_else(|| {
        let err = String::from_utf8_lossy(&answer.stderr);
        if let Some(problem) = reasons::problem(RunOutput { stderr: &err, ..RunOutput::default() })
            && problem.code == broken_import::CODE
        {
            return ValidateError::BrokenImport(Box::new(broken_import::with_package_version(
                problem,
                question.program,
            )));
        }
        let last = err.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("(nothing)");
        let text = if out.trim().is_empty() { last } else { &out };
        ValidateError::InvalidOutput { program: program(), said: text::single_line(text, MAX_TEXT_CHARS) }
    })
}

/// Other lines (library warnings) may surround the result; the right object is the one that says whether the config is valid.
fn parse_output(out: &str) -> Option<ValidationReport> {
    let starts = out.match_indices('{').map(|(at, _)| at).take(20);
    starts
        .filter_map(|at| serde_json::Deserializer::from_str(&out[at..]).into_iter::<Value>().next()?.ok())
        .find_map(|value| parse_report(&value))
}

fn parse_report(value: &Value) -> Option<ValidationReport> {
    let valid = value.get("valid")?.as_bool()?;
    let list = |key: &str| value.get(key).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let (errors, warnings) = (list("errors"), list("warnings"));
    let count = |key: &str, found: &[Value]| {
        let count_field = value.get(key).and_then(Value::as_u64).and_then(|count| usize::try_from(count).ok());
        count_field.unwrap_or_default().max(found.len())
    };
    let mut report = ValidationReport {
        errors: errors.iter().take(MAX_FINDINGS).map(parse_finding).collect(),
        warnings: warnings.iter().take(MAX_FINDINGS).map(parse_finding).collect(),
        error_count: count("error_count", errors),
        warning_count: count("warning_count", warnings),
    };
    if !valid && report.error_count == 0 {
        let message = "MassGen says that the config is not valid, and not why".to_owned();
        report.add_error(Finding { message, location: String::new(), suggestion: None });
    }
    Some(report)
}

fn parse_finding(value: &Value) -> Finding {
    let text_field = |key: &str| {
        value.get(key).and_then(Value::as_str).map(|text_field| text::single_line(text_field, MAX_TEXT_CHARS))
    };
    let message = text_field("message").unwrap_or_else(|| text::single_line(&value.to_string(), MAX_TEXT_CHARS));
    Finding { message, location: text_field("location").unwrap_or_default(), suggestion: text_field("suggestion") }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A stand-in that counts its calls.
    fn lab(script: &str) -> tempfile::TempDir {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().expect("temp");
        let program = folder.path().join("massgen");
        std::fs::write(&program, format!("#!/bin/sh\necho x >> \"$(dirname \"$0\")/asked\"\n{script}\n"))
            .expect("write");
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).expect("chmod");
        std::fs::write(folder.path().join("c.yaml"), "agents: []\n").expect("write");
        folder
    }

    async fn asked(folder: &Path, version: Option<&str>) -> Result<ValidationReport, ValidateError> {
        let (program, config, cache) = (folder.join("massgen"), folder.join("c.yaml"), folder.join("cache/v"));
        let question = ValidationRequest { program: &program, version, config: &config, folder, cache: &cache };
        validate(question, std::future::ready(None)).await
    }

    fn times(folder: &Path) -> usize {
        std::fs::read_to_string(folder.join("asked")).unwrap_or_default().lines().count()
    }

    const SAID: &str = r#"echo 'a {warning'; echo '{"valid": false, "error_count": 1, "errors": [{"message": "bad  thing", "location": "root", "suggestion": null}], "warnings": ["odd"]}'; exit 1"#;

    #[tokio::test]
    async fn the_same_text_is_validated_once() {
        use std::os::unix::fs::PermissionsExt;
        let folder = lab(SAID);
        let first = asked(folder.path(), Some("1")).await.expect("answer");
        assert_eq!((first.errors[0].message.as_str(), first.errors[0].location.as_str()), ("bad thing", "root"));
        assert_eq!((first.is_valid(), first.warnings[0].message.as_str(), first.warning_count), (false, "\"odd\"", 1));
        assert_eq!(asked(folder.path(), Some("1")).await.expect("kept"), first);
        assert_eq!(times(folder.path()), 1);
        let cached = std::fs::read_dir(folder.path().join("cache/v")).expect("cache").flatten().next().expect("kept");
        assert_eq!(cached.metadata().expect("meta").permissions().mode() & 0o777, 0o600);
        asked(folder.path(), Some("2")).await.expect("another version");
        std::fs::write(folder.path().join("c.yaml"), "agents: [1]\n").expect("write");
        asked(folder.path(), Some("2")).await.expect("another text");
        asked(folder.path(), None).await.expect("no version");
        assert_eq!(times(folder.path()), 4);
        for file in std::fs::read_dir(folder.path().join("cache/v")).expect("cache").flatten() {
            std::fs::write(file.path(), "torn {").expect("write");
        }
        assert_eq!(asked(folder.path(), Some("1")).await.expect("asked anew").error_count, 1);
    }

    #[tokio::test]
    async fn output_that_is_not_json_is_an_error_with_its_text() {
        for (script, expected) in [
            ("echo hello; exit 0", "hello"),
            ("echo 'Traceback'>&2; echo 'ImportError: x' >&2; exit 1", "ImportError: x"),
            ("exit 3", "(nothing)"),
            ("echo '{\"other\": 1}'", "{\"other\": 1}"),
        ] {
            let folder = lab(script);
            match asked(folder.path(), Some("1")).await {
                Err(ValidateError::InvalidOutput { said, .. }) => assert_eq!(said, expected),
                other => panic!("{script}: {other:?}"),
            }
            assert!(!folder.path().join("cache").exists(), "only answers are kept");
        }
        let folder = lab("");
        std::fs::remove_file(folder.path().join("massgen")).expect("removed");
        assert!(matches!(asked(folder.path(), None).await, Err(ValidateError::Execute { .. })));
        std::fs::remove_file(folder.path().join("c.yaml")).expect("removed");
        assert!(matches!(asked(folder.path(), None).await, Err(ValidateError::Read { .. })));
    }

    #[test]
    fn a_report_is_parsed_leniently_and_within_bounds() {
        let many: Vec<Value> = (0..50).map(|n| json!({"message": format!("{n} {}", "x".repeat(1000))})).collect();
        let report = parse_report(&json!({"valid": false, "errors": many})).expect("verdict");
        assert_eq!((report.errors.len(), report.error_count), (10, 50));
        assert_eq!(report.errors[0].message.chars().count(), MAX_TEXT_CHARS);
        assert!(parse_report(&json!({"valid": true, "errors": null})).expect("verdict").is_valid());
        assert!(!parse_report(&json!({"valid": false})).expect("verdict").is_valid());
        assert_eq!(parse_report(&json!({"valid": "yes"})), None);
    }

    #[tokio::test]
    async fn a_warm_report_is_used_and_cached_if_it_is_valid() {
        let folder = lab(SAID);
        let (program, config, cache) =
            (folder.path().join("massgen"), folder.path().join("c.yaml"), folder.path().join("cache"));
        let question = ValidationRequest {
            program: &program,
            version: Some("1"),
            config: &config,
            folder: folder.path(),
            cache: &cache,
        };
        let warm_output = |text: &str| std::future::ready(Some(text.as_bytes().to_vec()));
        let valid = validate(question, warm_output("log\n{\"valid\": true}\n")).await.expect("answer");
        assert!(valid.is_valid() && times(folder.path()) == 0);
        assert_eq!(validate(question, std::future::pending()).await.expect("kept"), valid);
        std::fs::write(&config, "agents: [1]\n").expect("write");
        assert_eq!(validate(question, warm_output("Traceback")).await.expect("answer").error_count, 1);
        assert_eq!(times(folder.path()), 1, "MassGen was started for it");
    }
}
