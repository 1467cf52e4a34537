//! Measurements → tables. Pure: the same lines give the same text. A table has no row for a missing measurement.

use std::fmt::Write;

use serde_json::Value;

const HEAD: &str = "\
# Benchmarks

`scripts/compare` measures all of this anew and writes this file, but for *What was found*. Everything in a table was measured in one go, in
turns where two things are compared, by the programs in [benches/](benches): release builds, real MassGen with the rehearsal model (scripted, on
this machine, so that no time is a provider's). Times depend on the machine; look at ratios and counts first.
";

pub(crate) fn document(facts: &str, wire: &[Value], massgen: &[Value], pure: &str, found: &str) -> String {
    let mut text = String::from(HEAD);
    text += "\n## The machine\n\n| | |\n| --- | --- |\n";
    for (name, value) in facts.lines().filter_map(|line| line.split_once('\t')) {
        let _written = writeln!(text, "| {name} | {value} |");
    }
    text += &tokens(massgen);
    text += &starts(massgen);
    text += &server(wire);
    text += &growth(wire);
    text += &computed(pure);
    text += &format!("\n## What was found\n\n{found}\n");
    text
}

const TOKENS: &str = "
## Tokens

What a run costs an agent from the list of tools to the answer, in tokens of o200k, read and written (of an MCP tool a model reads name, description
and input schema; of an answer, its text). The same question and config, real MassGen, four ways at the same time. This server waits in `check_status`; the
others cannot, and look every 10 seconds. That is kind to them: an agent that cannot sleep looks at once again. *Shell, blocking* is one call that returns when
MassGen does, which few shell tools allow for minutes. The list of tools is paid for once in a conversation, the rest for every run.
";

fn tokens(lines: &[Value]) -> String {
    let mut text = String::from(TOKENS);
    for scenario in distinct(lines, "scenario") {
        let line_of = |client: &str, phase: &str| {
            let is = |line: &&Value| line["scenario"] == scenario && line["who"] == client && line["phase"] == phase;
            lines.iter().find(is).cloned().unwrap_or_default()
        };
        let _written = writeln!(
            text,
            "\n**{scenario}**\n\n| by | list of tools | start | waits (calls) | largest look | answer | a run, without the list | all | × | bytes read |\n\
             | --- | --: | --: | --: | --: | --: | --: | --: | --: | --: |"
        );
        let run =
            |client: &str| number(&line_of(client, "total")["median"]) - number(&line_of(client, "tools")["median"]);
        for client in distinct(lines, "who") {
            let (wait, total) = (line_of(&client, "wait"), line_of(&client, "total"));
            let _written = writeln!(
                text,
                "| {client} | {} | {} | {} ({}) | {} | {} | {} ({:.1} ×) | {} | {:.1} | {} |",
                cell(&line_of(&client, "tools")["median"]),
                cell(&line_of(&client, "start")["median"]),
                cell(&wait["median"]),
                cell(&wait["calls"]),
                cell(&wait["largest"]),
                cell(&line_of(&client, "result")["median"]),
                plain(run(&client)),
                run(&client) / run("massgen-mcp"),
                cell(&total["median"]),
                number(&total["ratio"]),
                cell(&total["bytes_read"]),
            );
        }
    }
    text
}

const STARTS: &str = "
## Starts

A whole run of two agents whose model answers at once, so that what is left is MassGen's own time: started by hand (`massgen --automation`), through this
server cold, and warm (a child of a process that has imported MassGen already). Processor time is that of all processes of a run, the supervisor among them, seen every
50 ms; memory, in a round of its own, what they have at most, all together (what several share counted once), divided by the number of runs. The warm process is counted in.

| at once | way | last is over, s | one is over, s | its answer is there, s | processor, s a run | memory, MiB a run | × by hand | n |
| --: | --- | --: | --: | --: | --: | --: | --: | --: |
";

fn starts(lines: &[Value]) -> String {
    let mut text = String::from(STARTS);
    let line_of = |name: &str, at_once: &Value, way: &Value| {
        let is = |line: &&Value| {
            line["name"].as_str().and_then(|text| text.strip_prefix("run of two agents: ")) == Some(name)
                && line["at_once"] == *at_once
                && line["way"] == *way
        };
        lines.iter().find(is).cloned().unwrap_or_default()
    };
    for line in lines.iter().filter(|line| line["name"] == "run of two agents: all are over") {
        let (at_once, way) = (&line["at_once"], &line["way"]);
        let by_hand = line_of("all are over", at_once, &Value::from("by hand"));
        let _written = writeln!(
            text,
            "| {at_once} | {} | {} | {} | {} | {} | {} | {:.2} | {} |",
            way.as_str().unwrap_or_default(),
            cell(&line["median"]),
            cell(&line_of("one is over", at_once, way)["median"]),
            cell(&line_of("its answer is there", at_once, way)["median"]),
            cell(&line_of("processor", at_once, way)["median"]),
            cell(&line_of("memory at most", at_once, way)["median"]),
            number(&line["median"]) / number(&by_hand["median"]),
            line["n"],
        );
    }
    text
}

/// The fields of every line. All other fields are circumstances.
const KNOWN: [&str; 8] = ["name", "unit", "n", "median", "p99", "target", "bare", "ratio"];

/// Whether a line belongs to the plot: a duration by the number of runs.
fn grows(line: &Value) -> bool {
    line["unit"] == "ms" && (line.get("on_disk").is_some() || line.get("live").is_some())
}

const SERVER: &str = "
## The server

Over standard input and output, by a client process. *Bare* is the least that a server can cost here: rmcp with one tool that always says the same, asked in turns
with this one. *Wanted* is the most that the median was to be.

| | unit | median | 99th percentile | bare | × bare | wanted | n |
| --- | --- | --: | --: | --: | --: | --: | --: |
";

fn server(lines: &[Value]) -> String {
    let mut text = String::from(SERVER);
    for line in lines.iter().filter(|line| !grows(line)) {
        let circumstances = line.as_object().into_iter().flatten().filter(|(key, _)| !KNOWN.contains(&key.as_str()));
        let circumstances = circumstances.map(|(key, number)| format!(", {number} {}", key.replace('_', " ")));
        let _written = writeln!(
            text,
            "| {}{} | {} | {} | {} | {} | {} | {} | {} |",
            line["name"].as_str().unwrap_or_default(),
            circumstances.collect::<String>(),
            line["unit"].as_str().unwrap_or_default(),
            cell(&line["median"]),
            cell(&line["p99"]),
            cell(&line["bare"]),
            cell(&line["ratio"]),
            target(line),
            line["n"],
        );
    }
    text
}

fn target(line: &Value) -> String {
    match line["target"].as_f64() {
        Some(target) if number(&line["median"]) <= target => format!("{} ✓", plain(target)),
        Some(target) => format!("{} ✗", plain(target)),
        None => String::new(),
    }
}

const GROWTH: &str = "
## How cost grows

By the number of ended runs on disk, and by the number of live ones. The latest 20 are at most 20 runs in full; few runs on disk are a shorter answer.

![How long check_status takes, by the number of runs](docs/benchmarks.svg)

| | runs | median, ms | 99th percentile, ms | × bare | wanted | n |
| --- | --: | --: | --: | --: | --: | --: |
";

fn growth(lines: &[Value]) -> String {
    let mut text = String::from(GROWTH);
    let mut rows = Vec::new();
    for (index, key) in ["on_disk", "live"].into_iter().enumerate() {
        rows.extend(
            lines.iter().filter(|line| line.get(key).is_some() && line["unit"] == "ms").map(|line| (index, key, line)),
        );
    }
    rows.sort_by_key(|(index, _, line)| (*index, line["name"].to_string()));
    for (_, key, line) in rows {
        let _written = writeln!(
            text,
            "| {} | {} {} | {} | {} | {} | {} | {} |",
            line["name"].as_str().unwrap_or_default(),
            line[key],
            key.replace('_', " "),
            cell(&line["median"]),
            cell(&line["p99"]),
            cell(&line["ratio"]),
            target(line),
            line["n"],
        );
    }
    text
}

/// The table of criterion's results, from its output for programs: `test digest/3KB ... bench: 1,234 ns/iter (+/- 56)`.
fn computed(printed: &str) -> String {
    let mut text = String::from(
        "\n## What is computed\n\nBy one process alone (criterion).\n\n| | µs | ± |\n| --- | --: | --: |\n",
    );
    for line in printed.lines().filter_map(|line| line.strip_prefix("test ")) {
        let Some((name, rest)) = line.split_once(" ... bench:") else { continue };
        let Some((took, rest)) = rest.split_once("ns/iter (+/-") else { continue };
        let us = |text: &str| {
            let digits: String = text.chars().filter(|c| c.is_ascii_digit() || *c == '.').collect();
            digits.parse::<f64>().map_or_else(|_| String::new(), |ns| plain(ns / 1e3))
        };
        let _written = writeln!(text, "| {name} | {} | {} |", us(took), us(rest));
    }
    text
}

fn distinct(lines: &[Value], key: &str) -> Vec<String> {
    let mut values: Vec<String> = Vec::new();
    for value in lines.iter().filter_map(|line| line[key].as_str()) {
        if !values.iter().any(|known| known == value) {
            values.push(value.to_owned());
        }
    }
    values
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or(f64::NAN)
}

fn cell(value: &Value) -> String {
    value.as_f64().map(plain).unwrap_or_default()
}

/// A number with three significant digits; integers stay unchanged.
fn plain(number: f64) -> String {
    if number == number.trunc() {
        return format!("{number:.0}");
    }
    let before_point = number.abs().log10().floor();
    let decimals = (2.0 - before_point).clamp(0.0, 6.0) as usize;
    format!("{number:.decimals$}")
}
