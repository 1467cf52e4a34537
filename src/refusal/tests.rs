//! Refusals have no words of a programming language.

use super::*;

#[test]
fn a_damaged_file_is_told_by_its_place_and_not_by_types() {
    let source = |text: &str| serde_json::from_str::<u64>(text).expect_err("damaged");
    let record = RegistryError::Format { path: "r/run.json".into(), source: source("\n \"x\"") };
    assert_eq!(Refusal::from(record).message(), "`r/run.json` is not a run record (line 2, column 4)");
    let manifest = VerifyError::Damaged { run: "mg-00000000".parse().expect("an id"), source: source("[") };
    assert_eq!(Refusal::from(manifest).message(), "the manifest of mg-00000000 cannot be read (line 1, column 0)");
}
