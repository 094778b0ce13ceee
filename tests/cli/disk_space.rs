//! Disk space: what a plan says of it, and a disk that is too small, as a small file system of its
//! own. Tests that need one pass with a message where the system doesn't allow it.

use crate::interruption::{RUN, signal, training};
use crate::support::{Desk, Ran};
use std::path::Path;
use std::process::{Command, Stdio};

/// Runs `pipe` with its store on a file system of this size.
fn on_small_disk(desk: &Desk, size: &str, arguments: &[&str]) -> Option<Ran> {
    on_prepared_disk(desk, size, "exec", arguments)
}

/// The same after the shell commands `prepare`, which end in a prefix of the command.
fn on_prepared_disk(desk: &Desk, size: &str, prepare: &str, arguments: &[&str]) -> Option<Ran> {
    let script = format!(
        "mkdir -p small && mount -t tmpfs -o size={size} none small && {prepare} \"$0\" \"$@\" --cache small"
    );
    let own = ["--map-root-user", "--mount", "sh", "-c"];
    let possible = Command::new("unshare").args(own).arg("mount -t tmpfs none /mnt").output();
    if !possible.is_ok_and(|output| output.status.success()) {
        #[expect(clippy::print_stderr, reason = "the test is skipped, and says so")]
        {
            eprintln!("skipped: this system doesn't allow file systems of one's own");
        }
        return None;
    }
    let mut wrapped = Command::new("unshare");
    wrapped.args(own).arg(script).arg(env!("CARGO_BIN_EXE_pipe")).args(arguments);
    desk.isolate(&mut wrapped);
    let child = wrapped.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    Some(desk.wait(arguments, child))
}

/// A pipeline up to `preprocess` whose records take 19 MB.
fn large_records() -> Desk {
    let desk = Desk::tiny();
    desk.edit("tiny.toml", "size = 32", "size = 512");
    desk
}

#[test]
fn too_small_a_disk_is_an_error_before_anything_is_written() {
    let desk = large_records();
    let run = ["run", "tiny.toml", "--until", "preprocess"];
    let Some(ran) = on_small_disk(&desk, "6m", &run) else { return };
    assert_eq!(ran.code, 1, "{ran}");
    ran.snapshot("too_small_a_disk");
    let status = on_small_disk(&desk, "6m", &["status", "tiny.toml"]).unwrap();
    assert_eq!(status.code, 0, "{status}");
    status.snapshot("status_of_too_small_a_disk");
    let dry = on_small_disk(&desk, "6m", &[&run[..], &["--dry-run"]].concat()).unwrap();
    assert_eq!(dry.code, 1, "{dry}");
    let enough = on_small_disk(&desk, "60m", &run).unwrap();
    assert_eq!(enough.code, 0, "{enough}");
}

#[test]
fn the_plan_says_what_it_needs_and_what_features_take_beside_images() {
    let desk = large_records();
    let frozen = "backbone = \"resnet18\"\nfreeze = \"all\"\naugment = \"none\"";
    desk.edit("tiny.toml", "backbone = \"resnet18\"", frozen);
    desk.edit("tiny.toml", "[stages.train]\nneeds = {", "[stages.weights]\nkind = \"fetch\"\nsource = \"torchvision:resnet18\"\n\n[stages.train]\nneeds = { weights = \"weights\",");
    desk.ok(&["status", "tiny.toml", "--set", "stages.preprocess.size=64"])
        .snapshot("plan_of_frozen_features");
    let json = desk.ok(&["status", "tiny.toml", "--json"]).json();
    let images = std::fs::read_dir(desk.path("images")).unwrap().count() as u64;
    let needed = |stage: &str| {
        let stages = json["stages"].as_array().unwrap();
        stages.iter().find(|one| one["stage"] == stage).unwrap()["disk"].as_u64().unwrap()
    };
    let records = images * 512 * 512 * 3;
    assert!((records..records + 100_000).contains(&needed("preprocess")), "{json}");
    assert!(json["disk"]["needed"].as_u64().unwrap() >= records);
    assert!(json["disk"]["free"].as_u64().unwrap() > 0);
    assert_eq!(json["disk"]["enough"], true);
    // Records that are at hand aren't written again.
    desk.ok(&["run", "tiny.toml", "--until", "preprocess"]);
    desk.edit("tiny.toml", "train = 0.5, validation = 0.25", "train = 0.25, validation = 0.5");
    let again = desk.ok(&["status", "tiny.toml", "--json"]).json();
    let preprocess = &again["stages"].as_array().unwrap()[2];
    assert_eq!(
        (&preprocess["stage"], &preprocess["state"]),
        (&"preprocess".into(), &"dirty".into())
    );
    assert!(preprocess["disk"].as_u64().unwrap() < 10_000, "{again}");
}

/// The bytes of all files below a folder.
fn bytes_of(folder: &Path) -> u64 {
    let files = walkdir::WalkDir::new(folder).into_iter().flatten();
    files.filter(|file| file.file_type().is_file()).map(|file| file.metadata().unwrap().len()).sum()
}

#[test]
fn a_checkpoint_makes_room_where_the_disk_is_too_small_beside_it() {
    let desk = Desk::tiny();
    let child = training(&desk);
    signal("INT", child.id());
    assert_eq!(desk.wait(&RUN, child).code, 130);
    let checkpoint = bytes_of(&desk.path("cache/v1/memo/checkpoint_"));
    let needed =
        desk.ok(&["status", "tiny.toml", "--json"]).json()["disk"]["needed"].as_u64().unwrap();
    assert!(checkpoint > 40_000_000, "{checkpoint}");
    // Too small by half of the checkpoint, and larger by that without it.
    let enough = bytes_of(&desk.path("cache")) + needed - checkpoint / 2;
    let on_disk = |command: &str, arguments: &[&str]| {
        let prepare = format!("cp -a cache/. small && exec {command}");
        on_prepared_disk(&desk, &enough.to_string(), &prepare, arguments)
    };
    let Some(dry) = on_disk("", &[&RUN[..], &["--dry-run"]].concat()) else { return };
    assert_eq!(dry.code, 0, "{dry}");
    let ran = on_disk("timeout --signal=INT 15", &RUN).unwrap();
    let warning = ran.stderr.lines().find(|line| line.starts_with("warning"));
    desk.snapshot("a_checkpoint_that_was_in_the_way", warning.unwrap_or(&ran.stderr));
}
