//! Replaces the values in output that differ between runs and machines, for snapshots.

use regex::Regex;
use std::fs;
use std::path::Path;

/// Replacements for what differs between runs, machines and processors.
const FILTERS: &[(&str, &str)] = &[
    (r"\b(?:[0-9a-f]{64}|[0-9a-f]{12})\b", "[digest]"),
    (r"\b(artifacts|keys)/[0-9a-f]{2}/", "$1/[..]/"),
    (r"127\.0\.0\.1:\d+", "127.0.0.1:[port]"),
    (r"\d{4}-\d\d-\d\d(?: \d\d:\d\d UTC|T[\d:.]+Z)", "[date]"),
    // The line of an epoch: everything but its number and learning rate is measured.
    (
        r"(?m)^(  \S+ +\d+(?:/\d+)?) +[\d.]+ +[\d.]+ % +(?:[\d.]+|-) +(?:[\d.]+ %|-) +([\d.e-]+) +[\d,]+ +[\d:.]+(?: s)?$",
        "$1  [loss] [percent] [loss] [percent] $2 [speed] [time]",
    ),
    (r#"("free": ?)\d+"#, "${1}[number]"),
    (
        r#"("(?:seconds|value|peak_memory|images_per_second|accuracy(?:_low|_high)?|macro_f1|loss|roc_auc|average_precision|(?:max_)?calibration_error)": ?)[-\d.e]+"#,
        "${1}[number]",
    ),
    (r"\b\d+\.\d{6,}(?:e-?\d+)?", "[number]"),
    (r"kept epoch \d+", "kept epoch [number]"),
    (r"epoch \d+ of 9000, step \d+", "epoch [number] of 9000, step [number]"),
    (r"loss \d[\d.e-]*", "loss [number]"),
    // What the plan says of a precision that this processor is faster with.
    (r#"(?m)^.*`precision = "(?:f32|bf16)"` would .*\n"#, ""),
    (r#",\n? *"`precision = \\"(?:f32|bf16)\\"` would [^"]*""#, ""),
];

/// The same for values of different widths, on which the columns of a table depend: these are
/// collapsed then.
const MEASURED: &[(&str, &str)] = &[
    (r"\b(?:\d+ h \d\d min|\d+ min \d\d s|\d+\.\d+ s)\b", "[time]"),
    (r"\bjust now\b|\b\d+ (?:second|minute|hour|day)s? ago\b", "[ago]"),
    (r"\b\d+\.\d(?: %)? to \d+\.\d\b(?: %)?", "[percent] to [percent]"),
    (r"\b\d+\.\d %", "[percent]"),
    // The loss beside an accuracy: its last digits depend on the processor.
    (r"\[percent\] to \[percent\] +\d+\.\d+\b", "[percent] to [percent]  [loss]"),
    (r"\b\d[\d.]* (?:B|kB|MB|GB)\b", "[size]"),
];

/// `text` with the values that differ between runs and machines replaced. Runs are numbered in the
/// order in which they started, so that a snapshot still shows which run is meant.
pub(crate) fn steady(text: &str, folder: &Path) -> String {
    let mut text = text.to_owned();
    let canonical = folder.canonicalize().unwrap();
    text = text.replace(concat!("pipe ", env!("CARGO_PKG_VERSION")), "pipe [version]");
    let version = concat!("\"version\": \"", env!("CARGO_PKG_VERSION"), "\"");
    text = text.replace(version, "\"version\": \"[version]\"");
    let places = [
        (canonical.as_path(), "[folder]"),
        (folder, "[folder]"),
        (Path::new(env!("CARGO_TARGET_TMPDIR")), "[tmp]"),
        (Path::new(env!("CARGO_MANIFEST_DIR")), "[root]"),
    ];
    for (place, name) in places {
        let place = place.to_string_lossy();
        // In Markdown an underscore is escaped.
        text = text.replace(&*place, name).replace(&place.replace('_', "\\_"), name);
    }
    for (index, id) in runs(folder).iter().enumerate() {
        text = text.replace(id.as_str(), &format!("[run{}]", index + 1));
    }
    replace(&mut text, FILTERS);
    if replace(&mut text, MEASURED) {
        let columns = Regex::new(r"(\S) {2,}").unwrap();
        let steady = |line| match is_of_a_stage(line) {
            true => line.to_owned(),
            false => columns.replace_all(line, "$1  ").into_owned(),
        };
        text = text.lines().map(steady).collect::<Vec<_>>().join("\n");
    }
    text
}

/// Whether a line reports on a running stage: those have no columns that depend on a measured
/// value.
fn is_of_a_stage(line: &str) -> bool {
    line.starts_with(['▸', '✓', '•', '✗', '-'])
        || line.strip_prefix("  ").is_some_and(|rest| !rest.starts_with(' '))
}

/// Applies each pattern, and says whether one of them matched.
pub(crate) fn replace(text: &mut String, patterns: &[(&str, &str)]) -> bool {
    let before = text.clone();
    for (pattern, replacement) in patterns {
        *text = Regex::new(pattern).unwrap().replace_all(text, *replacement).into_owned();
    }
    before != *text
}

/// The ids of all runs in the stores of a folder, in the order in which they started.
fn runs(folder: &Path) -> Vec<String> {
    let folders = |path: &Path| fs::read_dir(path).into_iter().flatten().flatten();
    let records = folders(folder)
        .flat_map(|store| folders(&store.path().join("v1/runs")))
        .map(|run| run.path());
    let started = |run: &Path| -> Option<String> {
        let record: serde_json::Value =
            serde_json::from_slice(&fs::read(run.join("run.json")).ok()?).ok()?;
        record["started"].as_str().map(str::to_owned)
    };
    let mut found: Vec<(Option<String>, String)> = records
        .map(|run| (started(&run), run.file_name().unwrap().to_string_lossy().into_owned()))
        .collect();
    found.sort();
    found.into_iter().map(|(_, id)| id).collect()
}
