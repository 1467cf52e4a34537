//! Pure computations in one process, measured with criterion: status.json → digest, record → view, text → page.
//! `cargo bench --bench pure`.

use std::hint::black_box;
use std::path::{Path, PathBuf};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use massgen_mcp::clock;
use massgen_mcp::massgen::{pages, status};
use massgen_mcp::registry;
use massgen_mcp::run::{ConfigChoice, RunId, RunRecord, RunSpec};
use massgen_mcp::secrets::Secrets;
use massgen_mcp::view::{self, Detail, RunExtras};
use serde_json::Value;

/// Real status files of MassGen, from small to large, and the largest one repeated to 2 MB.
fn samples() -> [(&'static str, Vec<u8>); 4] {
    let read = |name: &str| {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/status");
        std::fs::read(folder.join(name)).expect("a sample")
    };
    let largest = read("timeout_268KB_unbounded_growth.json");
    let grown = grown(&largest, 2 << 20);
    [
        ("3KB", read("sigterm_in_progress.json")),
        ("11KB", read("complete_with_tools_workspaces.json")),
        ("268KB", largest),
        ("2MB", grown),
    ]
}

/// Enlarges a status.json to this number of bytes by repeating the items of its lists.
fn grown(status: &[u8], bytes: usize) -> Vec<u8> {
    let status: Value = serde_json::from_slice(status).expect("JSON");
    let mut grown = status.clone();
    loop {
        let text = serde_json::to_vec_pretty(&grown).expect("JSON");
        if text.len() >= bytes {
            return text;
        }
        repeat_items(&mut grown, &status);
    }
}

fn repeat_items(grown: &mut Value, by: &Value) {
    match (grown, by) {
        (Value::Array(list), Value::Array(same)) => list.extend(same.iter().cloned()),
        (Value::Object(object), Value::Object(same)) => {
            object.iter_mut().for_each(|(key, inner)| same.get(key).into_iter().for_each(|by| repeat_items(inner, by)));
        }
        (_, _) => {}
    }
}

fn digest(criterion: &mut Criterion) {
    let secrets = Secrets::from_variables([("A_KEY".to_owned(), "a-secret-of-some-length".to_owned())]);
    let mut group = criterion.benchmark_group("digest");
    for (name, status) in samples() {
        group.throughput(Throughput::Bytes(status.len() as u64));
        group.bench_function(name, |bench| bench.iter(|| status::masked_digest(black_box(&status), &secrets)));
    }
    group.finish();
}

fn record() -> RunRecord {
    let (project, program) = (PathBuf::from("/project"), PathBuf::from("/bin/massgen"));
    let id = RunId::from_bytes([1, 2, 3, 4, 5]);
    let spec = RunSpec::new(id, "what is it?", ConfigChoice::Rehearsal("rehearsal".to_owned()), project, program);
    let [_, (_, status), ..] = samples();
    RunRecord { digest: status::digest(&status).ok(), started: Some(clock::now()), ..registry::initial_record(spec) }
}

fn view(criterion: &mut Criterion) {
    let (record, now, models) = (record(), clock::now(), std::collections::BTreeMap::new());
    let seen = RunExtras {
        folder: Path::new("/run"),
        children: &[],
        dependents: &[],
        queue_position: None,
        pending_messages: 0,
        awaited_models: &models,
        wording: |step| step.words(&[]),
    };
    let mut group = criterion.benchmark_group("view");
    for (name, detail) in [("brief", Detail::Brief), ("full", Detail::Full)] {
        group.bench_function(name, |bench| {
            bench.iter(|| serde_json::to_value(view::run_view(black_box(&record), &seen, detail, &now)));
        });
    }
    group.finish();
}

fn page(criterion: &mut Criterion) {
    let secrets = Secrets::from_variables([("A_KEY".to_owned(), "a-secret-of-some-length".to_owned())]);
    let mut group = criterion.benchmark_group("page");
    for (name, text) in
        [("30KB", "a line of an answer\n".repeat(1_500)), ("2MB", "a líne of an answer\n".repeat(100_000))]
    {
        group.throughput(Throughput::Bytes(text.len() as u64));
        group.bench_function(name, |bench| {
            bench.iter(|| pages::read_page(black_box(text.as_bytes()), 0, 30_000, &secrets));
        });
    }
    group.finish();
}

criterion_group!(pure, digest, view, page);
criterion_main!(pure);
