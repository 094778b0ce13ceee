//! Stores that this user may only read, stores of a group, and folders whose permissions were taken
//! away. Root may do everything, so tests that run as root run the program as another user.

use crate::support::{Desk, Ran};
use std::fs::{self, Permissions};
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

/// A user without rights; the number is that of `nobody` on most systems.
const NOBODY: u32 = 65_534;

fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|metadata| metadata.uid() == 0)
}

fn entries(folder: &Path) -> impl Iterator<Item = walkdir::DirEntry> {
    walkdir::WalkDir::new(folder).into_iter().map(|entry| entry.unwrap())
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

/// A command of a user who isn't root. None, with a message, if that user can't run the program.
fn as_user(desk: &Desk, arguments: &[&str]) -> Option<Ran> {
    let mut command = desk.command(arguments);
    if is_root() {
        let mut version = Command::new(env!("CARGO_BIN_EXE_pipe"));
        let can_run = version.arg("--version").uid(NOBODY).gid(NOBODY).output();
        if !can_run.is_ok_and(|output| output.status.success()) {
            let why = format!("skipped: user {NOBODY} can't run the program from here\n");
            std::io::stderr().write_all(why.as_bytes()).unwrap();
            return None;
        }
        command.uid(NOBODY).gid(NOBODY);
    }
    Some(desk.output(command))
}

/// A trained desk that the user of [`as_user`] can read, but not write.
fn readable() -> Desk {
    let desk = Desk::trained();
    for entry in entries(&desk.path("")) {
        let mode = if entry.file_type().is_dir() { 0o555 } else { 0o444 };
        set_mode(entry.path(), mode);
    }
    desk
}

/// Lets the desk be removed.
fn release(desk: &Desk) {
    for entry in entries(&desk.path("")).filter(|entry| entry.file_type().is_dir()) {
        set_mode(entry.path(), 0o755);
    }
}

#[test]
fn a_store_that_can_only_be_read_is_shown_compared_and_used() {
    let desk = readable();
    let out = tempfile::tempdir().unwrap();
    set_mode(out.path(), 0o777);
    let page = out.path().join("page.html");
    for arguments in [
        &["status", "tiny.toml"][..],
        &["runs"],
        &["show", "@0"],
        &["log", "@0", "train"],
        &["diff", "@0", "@0"],
        &["predict", "@0", "images/0_disc.png"],
        &["cache", "verify"],
        &["cache", "du"],
        &["run", "tiny.toml"],
        &["report", "@0", "--output", page.to_str().unwrap()],
    ] {
        let Some(ran) = as_user(&desk, arguments) else { return release(&desk) };
        assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{arguments:?}: {ran}");
    }
    assert!(page.exists());
    for (name, arguments) in [
        ("a_page_in_a_readable_store", &["report", "@0"][..]),
        ("a_run_in_a_readable_store", &["run", "tiny.toml", "--force=explore"]),
        ("gc_of_a_readable_store", &["cache", "gc", "--keep-runs", "0", "--keep-days", "0"]),
    ] {
        let Some(ran) = as_user(&desk, arguments) else { return release(&desk) };
        assert_ne!(ran.code, 0, "{ran}");
        ran.snapshot(name);
    }
    // Nor is a lock needed.
    release(&desk);
    fs::remove_file(desk.path("cache/v1/lock")).unwrap();
    set_mode(&desk.path("cache/v1"), 0o555);
    let shown = as_user(&desk, &["show", "@0"]);
    assert!(shown.is_some_and(|ran| ran.code == 0 && ran.stderr.is_empty()));
    release(&desk);
}

#[test]
fn a_store_of_a_group_stays_one() {
    let desk = Desk::tiny();
    fs::create_dir(desk.path("cache")).unwrap();
    set_mode(&desk.path("cache"), 0o2775);
    let group = fs::metadata(desk.path("cache")).unwrap().gid();
    let mut shell = Command::new("sh");
    shell.args(["-c", "umask 002; exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_pipe")]);
    shell.args(["run", "tiny.toml", "--until", "preprocess"]);
    desk.isolate(&mut shell);
    let ran = desk.output(shell);
    assert_eq!(ran.code, 0, "{ran}");
    for entry in entries(&desk.path("cache")) {
        let metadata = entry.metadata().unwrap();
        let (mode, path) = (metadata.mode() & 0o7777, entry.path().display());
        assert_eq!(metadata.gid(), group, "{path}");
        match metadata.is_dir() {
            true => assert_eq!(mode, 0o2775, "{path}"),
            false => assert!([0o664, 0o444].contains(&mode), "{path} {mode:o}"),
        }
    }
}

/// Each folder of a store in turn can't be entered by its owner.
#[test]
fn folders_without_permissions_are_restored() {
    let desk = Desk::tiny();
    let owner = if is_root() { NOBODY } else { fs::metadata(desk.path("")).unwrap().uid() };
    let until = ["run", "tiny.toml", "--until", "explore"];
    if is_root() {
        entries(&desk.path("")).for_each(|entry| chown(entry.path(), Some(owner), None).unwrap());
    }
    let Some(first) = as_user(&desk, &until) else { return };
    assert_eq!(first.code, 0, "{first}");
    let root = desk.path("cache/v1");
    let folders = entries(&root).filter(|entry| entry.file_type().is_dir());
    let mut folders: Vec<_> = folders.map(walkdir::DirEntry::into_path).collect();
    folders.retain(|path| *path != root);
    assert!(folders.len() > 15, "{folders:?}");
    for folder in folders.iter().filter(|folder| folder.exists()) {
        set_mode(folder, 0o000);
        let ran = as_user(&desk, &until).unwrap();
        assert_eq!(ran.code, 0, "{}: {ran}", folder.display());
        if folder.exists() {
            set_mode(folder, 0o755);
        }
        let next = as_user(&desk, &until).unwrap();
        assert_eq!(next.code, 0, "{}: {next}", folder.display());
    }
}
