//! Runs `pipe` and samples the memory of its processes through `/proc`, for benchmarks. Linux only.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

const PIPE: &str = env!("CARGO_BIN_EXE_pipe");

/// The name of the process that plans and starts the stages.
pub(crate) const PARENT: &str = "(plan)";

/// Peak memory of a process in kB.
#[derive(Clone, Copy, Default)]
pub(crate) struct Peak {
    pub anonymous: u64,
    pub file: u64,
}

/// Runs `pipe` in a folder. Returns the peak of each process, by stage. Panics if the run fails.
pub(crate) fn run(folder: &Path, arguments: &[&str]) -> BTreeMap<String, Peak> {
    let mut child = Command::new(PIPE)
        .args(arguments)
        .current_dir(folder)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the program starts");
    let (status, peaks) = watch(&mut child);
    assert!(status.success(), "the run failed: {status}");
    peaks
}

/// Waits for `pipe`. Returns how it ended and the peak of each process, by stage.
pub(crate) fn watch(child: &mut Child) -> (ExitStatus, BTreeMap<String, Peak>) {
    let mut peaks: BTreeMap<String, Peak> = BTreeMap::new();
    loop {
        if let Some(status) = child.try_wait().expect("the child can be waited for") {
            return (status, peaks);
        }
        let parent = status(Path::new(&format!("/proc/{}", child.id())));
        let parent = parent.map(|(_, peak)| (PARENT.to_owned(), peak));
        for (stage, peak) in children(child.id()).into_iter().chain(parent) {
            let so_far = peaks.entry(stage).or_default();
            so_far.anonymous = so_far.anonymous.max(peak.anonymous);
            so_far.file = so_far.file.max(peak.file);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The parent's id and the memory of a process.
fn status(folder: &Path) -> Option<(u64, Peak)> {
    let status = std::fs::read_to_string(folder.join("status")).ok()?;
    let field = |name: &str| {
        let mut lines = status.lines();
        lines.find_map(|line| line.strip_prefix(name)?.split_whitespace().next()?.parse().ok())
    };
    let peak = Peak { anonymous: field("RssAnon:")?, file: field("RssFile:")? };
    Some((field("PPid:")?, peak))
}

/// The worker processes of `parent` that run now: stage and memory.
fn children(parent: u32) -> Vec<(String, Peak)> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    let worker = |folder: &Path| {
        let (its_parent, peak) = status(folder)?;
        (its_parent == u64::from(parent)).then_some(())?;
        let command = std::fs::read_to_string(folder.join("cmdline")).ok()?;
        let job = command.split('\0').nth(2)?.to_owned();
        let text = std::fs::read_to_string(&job).ok()?;
        let job: serde_json::Value = serde_json::from_str(&text).ok()?;
        Some((job.get("stage")?.as_str()?.to_owned(), peak))
    };
    entries.flatten().filter_map(|entry| worker(&entry.path())).collect()
}
