//! Every file of a finished store, damaged, before every command: none panics, none takes damaged
//! bytes for what was written, and after a run each works again. By default a choice of all
//! combinations; `EVERY_DAMAGE=1 cargo test --test cli no_command_believes` tries all of them, which
//! takes about an hour.

use crate::steady::steady;
use crate::support::{Desk, Ran};
use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Commands whose output is data of the store.
const SHOWING: [&[&str]; 6] = [
    &["show", "@0", "--json"],
    &["log", "@0", "train"],
    &["diff", "@0", "@0", "--json"],
    &["predict", "@0", "images/0_disc.png", "--format", "csv"],
    &["runs"],
    &["watch"],
];

/// The others.
const OTHERS: [&[&str]; 12] = [
    &["status", "tiny.toml"],
    &["why", "tiny.toml", "train"],
    &["run", "tiny.toml", "--dry-run"],
    &["graph", "tiny.toml"],
    &["report", "@0", "--output", "page.html"],
    &["evaluate", "@0", "labelled"],
    &["export", "@0", "--format", "safetensors", "--out", "exported", "--verify", "0"],
    &["checkout", "@0", "--folder", "there"],
    &["preview", "tiny.toml", "--out", "preview.html"],
    &["cache", "du"],
    &["cache", "gc", "--dry-run"],
    &["cache", "verify"],
];

/// The ways in which a file is damaged. Times stay, so that only the content shows it.
const DAMAGES: [&str; 7] =
    ["first byte", "middle byte", "last byte", "cut", "deleted", "a folder", "a link"];

fn damage(path: &Path, how: &str) {
    let time = fs::metadata(path).unwrap().modified().unwrap();
    let mut bytes = fs::read(path).unwrap();
    fs::remove_file(path).unwrap();
    let at = match how {
        "first byte" => 0,
        "middle byte" => bytes.len() / 2,
        "last byte" => bytes.len().saturating_sub(1),
        "cut" => {
            bytes.truncate(bytes.len() / 2);
            bytes.len()
        }
        "deleted" => return,
        "a folder" => return fs::create_dir_all(path.join("inside")).unwrap(),
        _ => return symlink("nowhere", path).unwrap(),
    };
    if let Some(byte) = bytes.get_mut(at) {
        *byte ^= 0x10;
    }
    fs::write(path, bytes).unwrap();
    File::options().write(true).open(path).unwrap().set_modified(time).unwrap();
}

/// Puts a copy of the whole store, by links, in the place of the damaged one.
fn reset(desk: &Desk) {
    let clean = "chmod -R u+w cache exported there 2>/dev/null; rm -rf cache exported there";
    let copy = format!("{clean}; cp -al whole cache");
    assert!(
        Command::new("sh")
            .args(["-c", &copy])
            .current_dir(desk.path(""))
            .status()
            .unwrap()
            .success()
    );
}

fn files(store: &Path) -> Vec<PathBuf> {
    let entries = walkdir::WalkDir::new(store).sort_by_file_name().into_iter();
    let files = entries.map(|entry| entry.unwrap()).filter(|entry| entry.file_type().is_file());
    files.map(|entry| entry.path().strip_prefix(store).unwrap().to_owned()).collect()
}

/// The standard output without what differs between two calls, and without the path of the model:
/// there is none while its artifact is damaged.
fn shown(desk: &Desk, ran: &Ran) -> String {
    let model = regex::Regex::new(r#""model": .*"#).unwrap();
    model.replace_all(&steady(&ran.stdout, &desk.path("")), "\"model\": -").into_owned()
}

/// The command answers or fails in a sentence.
fn assert_handled(ran: &Ran, place: &str) {
    assert!((0..=3).contains(&ran.code), "{place}: {ran}");
    assert!(!ran.stderr.contains("panicked"), "{place}: {ran}");
    assert!(ran.code == 0 || !ran.stderr.is_empty(), "{place}: {ran}");
}

#[test]
fn the_list_of_runs_names_damaged_metrics() {
    let desk = Desk::trained();
    let store = desk.path("cache");
    let is_of_a_run =
        |file: &&PathBuf| file.starts_with("v1/runs") && file.ends_with("metrics.json");
    let found = files(&store);
    let file = store.join(found.iter().find(is_of_a_run).unwrap());
    assert_eq!(desk.ok(&["runs"]).stderr, "");
    for how in ["middle byte", "a folder", "deleted"] {
        let whole = fs::read(&file).unwrap();
        damage(&file, how);
        let ran = desk.ok(&["runs"]);
        assert!(ran.stderr.contains("results/evaluate/metrics.json of run"), "{how}: {ran}");
        let _ = fs::remove_dir_all(&file);
        let _ = fs::remove_file(&file);
        fs::write(&file, whole).unwrap();
    }
}

#[test]
fn no_command_believes_a_damaged_file_or_fails_for_ever() {
    let desk = Desk::trained();
    fs::rename(desk.path("cache"), desk.path("whole")).unwrap();
    for class in ["bar", "disc", "frame"] {
        desk.images(&format!("labelled/{class}"), &[class], 2);
    }
    reset(&desk);
    let sound: Vec<String> =
        SHOWING.iter().map(|arguments| shown(&desk, &desk.ok(arguments))).collect();
    for arguments in OTHERS {
        reset(&desk);
        desk.ok(arguments);
    }
    let files = files(&desk.path("whole"));
    assert!(files.len() > 30, "{files:?}");
    // Every file meets two of the damages and four of the commands, or all of them; all meet every
    // kind of file.
    let every = std::env::var_os("EVERY_DAMAGE").is_some();
    let (turns, steps) = if every { (DAMAGES.len(), OTHERS.len()) } else { (2, 2) };
    for (index, file) in files.iter().enumerate() {
        for turn in 0..turns {
            let how = DAMAGES[(index + 3 * turn) % DAMAGES.len()];
            let damaged = || {
                reset(&desk);
                damage(&desk.path("cache").join(file), how);
            };
            damaged();
            for step in 0..steps {
                if every {
                    damaged();
                }
                let at = (index + 2 * turn + step) % SHOWING.len();
                let place = format!("{} {how}, pipe {}", file.display(), SHOWING[at].join(" "));
                let ran = desk.pipe(SHOWING[at]);
                assert_handled(&ran, &place);
                // The list of runs has a damaged record as a row that says so.
                let is_said = !ran.stderr.is_empty() || ran.stdout.contains("damaged");
                let is_silent = ran.code == 0 && !is_said;
                assert!(!is_silent || shown(&desk, &ran) == sound[at], "{place}: {ran}");
                if every {
                    damaged();
                }
                let other = OTHERS[(index + 5 * turn + step) % OTHERS.len()];
                assert_handled(&desk.pipe(other), &format!("{}, pipe {}", place, other.join(" ")));
            }
            if every || (index + turn) % 8 == 0 {
                let place = format!("{} {how}", file.display());
                let run = desk.pipe(&["run", "tiny.toml", "--jobs", "1"]);
                assert_eq!(run.code, 0, "{place}: {run}");
                for arguments in SHOWING {
                    let place = format!("{place}, pipe {}", arguments.join(" "));
                    let mut ran = desk.pipe(arguments);
                    // A run doesn't look at what no stage reads, such as the model's history: the
                    // command that finds it damaged sets the output aside.
                    if every && ran.code != 0 {
                        assert_handled(&ran, &place);
                        desk.ok(&["run", "tiny.toml", "--jobs", "1"]);
                        ran = desk.pipe(arguments);
                    }
                    assert_eq!(ran.code, 0, "{place}: {ran}");
                }
            }
        }
    }
}
