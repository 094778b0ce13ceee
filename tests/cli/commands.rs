//! `command` stages: what reruns them, what becomes of their files, how they fail, and other stages
//! that read their outputs.

use crate::support::{Desk, TINY, wait_for};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

/// Long enough for a busy machine.
const SOON: Duration = Duration::from_secs(60);

/// Copies the images below a number.
const THIN: &str = r#"set -e
mkdir "$3"
for file in "$2"/*.png; do
    name=${file##*/}
    if [ "${name%%_*}" -lt "$1" ]; then cp "$file" "$3"; fi
done
echo "copied the images below $1"
"#;

/// [`TINY`] on the images that a command chose.
fn thinned() -> Desk {
    let desk = Desk::tiny();
    let rest = TINY.replace("{ images = \"fetch\" }", "{ images = \"thin\" }");
    let stage = r#"[vars]
below = 21

[stages.thin]
kind = "command"
needs = { all = "fetch/images" }
command = ["sh", "thin.sh", "${below}", "{inputs.all}", "{output}/images"]
outputs = ["images"]
scripts = ["thin.sh"]
pin_program = false

"#;
    desk.write("tiny.toml", format!("{stage}{rest}"));
    desk.write("thin.sh", THIN);
    desk
}

/// A pipeline of one stage `make`, which runs this script with `{output}` as its argument.
fn making(script: &str, keys: &str) -> Desk {
    let desk = Desk::empty();
    desk.write("make.sh", script);
    desk.write("make.toml", stage("make", "make.sh", keys));
    desk
}

fn stage(name: &str, script: &str, keys: &str) -> String {
    format!(
        "[stages.{name}]\nkind = \"command\"\ncommand = [\"sh\", \"{script}\", \"{{output}}\"]\n\
         scripts = [\"{script}\"]\npin_program = false\n{keys}\n"
    )
}

/// The names of the files in the only artifact of a desk, sorted.
fn kept(desk: &Desk) -> Vec<String> {
    let artifacts: Vec<_> = walkdir::WalkDir::new(desk.path("cache/v1/artifacts"))
        .min_depth(2)
        .max_depth(2)
        .into_iter()
        .flatten()
        .collect();
    let [artifact] = artifacts.as_slice() else { panic!("{artifacts:?}") };
    let files = walkdir::WalkDir::new(artifact.path()).min_depth(1).sort_by_file_name();
    let relative = |path: &Path| path.strip_prefix(artifact.path()).unwrap().display().to_string();
    files.into_iter().map(|entry| relative(entry.unwrap().path())).collect()
}

#[test]
fn images_that_a_command_wrote_are_explored_and_trained_on() {
    let desk = thinned();
    desk.ok(&["graph", "tiny.toml"]).snapshot("graph");
    desk.ok(&["status", "tiny.toml"]).snapshot("status_before");
    let events = desk.events(&["tiny.toml"]);
    assert_eq!(events.with_outcome("ran").len(), 6);
    desk.ok(&["log", "@0", "thin"]).snapshot("log");
    desk.ok(&["show", "@0"]).snapshot("show");
    desk.ok(&["why", "tiny.toml", "thin"]).snapshot("why");
    desk.ok(&["run", "tiny.toml"]).snapshot("nothing_to_do");
    // The page shows the stage like any other.
    let page = desk.path("page.html");
    desk.ok(&["report", "@0", "--output", page.to_str().unwrap()]);
    assert_eq!(fs::read_to_string(&page).unwrap().matches(">command</td>").count(), 1);
    // A changed parameter, a changed script, a changed image.
    desk.ok(&["status", "tiny.toml", "--set", "vars.below=18"]).snapshot("another_parameter");
    desk.edit("thin.sh", "copied", "took");
    desk.ok(&["status", "tiny.toml"]).snapshot("another_script");
    let events = desk.events(&["tiny.toml"]);
    assert_eq!(events.with_outcome("ran"), ["thin"], "the same images come out");
    fs::copy(desk.path("images/0_disc.png"), desk.path("images/3_disc.png")).unwrap();
    let events = desk.events(&["tiny.toml", "--until", "explore"]);
    assert_eq!(events.with_outcome("ran"), ["explore", "fetch", "thin"]);
    // The run from before can be had again.
    desk.ok(&["checkout", "@2"]).snapshot("checkout");
}

#[test]
fn a_stage_depends_on_the_part_that_it_names() {
    let desk = Desk::empty();
    desk.write("both.sh", "mkdir \"$1/a\"\necho one > \"$1/a/x\"\necho \"$2\" > \"$1/b\"\n");
    desk.write("use.sh", "cat \"$2\" > \"$1/copy\"\n");
    let both = stage("both", "both.sh", "outputs = [\"a/\", \"b\"]")
        .replace("\"{output}\"]", "\"{output}\", \"${text}\"]");
    let reading = |name: &str, part: &str| {
        let keys = format!("outputs = [\"copy\"]\nneeds = {{ x = \"both/{part}\" }}");
        stage(name, "use.sh", &keys).replace("\"{output}\"]", "\"{output}\", \"{inputs.x}\"]")
    };
    let stages = [both, reading("first", "a/x"), reading("second", "b")].concat();
    desk.write("parts.toml", format!("[vars]\ntext = \"1\"\n{stages}"));
    assert_eq!(desk.events(&["parts.toml"]).with_outcome("ran"), ["both", "first", "second"]);
    let events = desk.events(&["parts.toml", "--set", "vars.text=2"]);
    assert_eq!(events.with_outcome("ran"), ["both", "second"]);
    assert_eq!(events.with_outcome("fresh"), ["first"]);
    desk.edit("parts.toml", "both/a/x", "both/a/z");
    desk.pipe(&["run", "parts.toml"]).snapshot("a_part_that_is_missing");
    desk.edit("parts.toml", "both/a/z", "both/c");
    desk.pipe(&["run", "parts.toml"]).snapshot("a_part_that_is_not_declared");
}

#[test]
fn only_declared_files_are_kept() {
    let script = "cd \"$1\"\nmkdir -p out/empty other/deep void\necho 1 > out/a\necho 2 > other/deep/b\n\
                  echo 3 > c\nln -s /etc d\n";
    let desk = making(script, "outputs = [\"out\"]");
    desk.ok(&["run", "make.toml"]).snapshot("undeclared_files");
    assert_eq!(kept(&desk), ["manifest.json", "out", "out/a"]);
    desk.ok(&["cache", "verify"]);
}

#[test]
fn a_hard_link_to_a_users_file_leaves_that_as_it_is() {
    let desk = making("ln own.txt \"$1/out\"\n", "outputs = [\"out\"]");
    desk.write("own.txt", "mine");
    let before = fs::metadata(desk.path("own.txt")).unwrap();
    desk.ok(&["run", "make.toml"]);
    let after = fs::metadata(desk.path("own.txt")).unwrap();
    assert_eq!(after.permissions(), before.permissions());
    assert_eq!(after.modified().unwrap(), before.modified().unwrap());
    desk.write("own.txt", "changed");
    assert_eq!(desk.ok(&["cache", "verify"]).stderr, "");
}

#[test]
fn the_environment_is_clean() {
    let desk = making(
        "env > \"$1/env\"\n",
        "outputs = [\"env\"]\nenv = { SIZE = \"${size}\", PLACE = \"{output}/x\" }\npass_env = [\"TOKEN\", \"NONE\"]",
    );
    let text = desk.read("make.toml");
    desk.write("make.toml", format!("[vars]\nsize = 3\n{text}"));
    let mut command = desk.command(&["run", "make.toml"]);
    command.env("TOKEN", "secret").env("OTHER", "x").env("LANG", "C").env("TMPDIR", "/tmp");
    let ran = desk.output(command);
    assert_eq!(ran.code, 0, "{ran}");
    let artifact = walkdir::WalkDir::new(desk.path("cache/v1/artifacts")).into_iter().flatten();
    let file = artifact.into_iter().find(|entry| entry.file_name() == "env").unwrap();
    let text = fs::read_to_string(file.path()).unwrap();
    // A shell adds some of its own.
    let own = ["PWD", "OLDPWD", "SHLVL", "_"];
    let mut names: Vec<&str> = text
        .lines()
        .filter_map(|line| line.split_once('='))
        .map(|(name, _)| name)
        .filter(|name| !own.contains(name))
        .collect();
    names.sort_unstable();
    assert_eq!(names, ["HOME", "LANG", "PATH", "PLACE", "SIZE", "TMPDIR", "TOKEN"]);
    assert!(text.lines().any(|line| line == "SIZE=3"), "{text}");
    let place = text.lines().find_map(|line| line.strip_prefix("PLACE=")).unwrap();
    assert!(Path::new(place).is_absolute() && place.ends_with("/x"), "{place}");
    // A secret isn't written anywhere else.
    let record = desk.path("cache/v1/runs");
    assert_eq!(crate::support::containing(&record, "secret"), Vec::<String>::new());
}

#[test]
fn the_program_is_part_of_the_key_unless_it_says_otherwise() {
    let desk = Desk::empty();
    let tool = |text: &str| {
        desk.write("tool", format!("#!/bin/sh\necho {text} > \"$1\"\n"));
        fs::set_permissions(desk.path("tool"), PermissionsExt::from_mode(0o755)).unwrap();
    };
    tool("one");
    let stage = "[stages.make]\nkind = \"command\"\ncommand = [\"./tool\", \"{output}/a\"]\noutputs = [\"a\"]\n";
    desk.write("make.toml", stage);
    desk.ok(&["run", "make.toml"]);
    tool("two");
    desk.ok(&["status", "make.toml"]).snapshot("another_program");
    desk.write("make.toml", format!("{stage}pin_program = false\n"));
    desk.ok(&["run", "make.toml"]);
    tool("three");
    assert_eq!(desk.events(&["make.toml"]).with_outcome("fresh"), ["make"]);
}

#[test]
fn each_bad_end_has_its_sentence() {
    for (name, script, outputs) in [
        ("exit_code", "echo reading\necho \"no such column: size\" >&2\nexit 3\n", "a"),
        ("killed", "echo far >&2\nkill -KILL $$\n", "a"),
        ("segmentation_fault", "kill -SEGV $$\n", "a"),
        ("missing_output", "echo done\n", "a"),
        ("output_beside_the_file", "echo 1 > a\n", "a"),
        ("empty_output", "mkdir \"$1/a\"\n", "a"),
        ("link_that_points_out", "mkdir \"$1/a\"\nln -s /etc/hostname \"$1/a/b\"\n", "a"),
        ("output_that_is_a_link", "ln -s /etc \"$1/a\"\n", "a"),
        ("output_below_a_link", "ln -s /etc \"$1/a\"\n", "a/hostname"),
        ("link_that_stays_inside", "echo 1 > \"$1/b\"\nln -s b \"$1/a\"\n", "a"),
        ("named_pipe", "mkfifo \"$1/a\"\n", "a"),
    ] {
        let desk = making(script, &format!("outputs = [\"{outputs}\"]"));
        let ran = desk.pipe(&["run", "make.toml"]);
        assert_eq!(ran.code, 1, "{name}: {ran}");
        ran.snapshot(name);
        assert!(!desk.path("cache/v1/artifacts").exists() || kept_nothing(&desk), "{name}");
    }
}

fn kept_nothing(desk: &Desk) -> bool {
    walkdir::WalkDir::new(desk.path("cache/v1/artifacts")).min_depth(2).into_iter().next().is_none()
}

#[test]
fn a_program_that_cannot_be_started_is_explained() {
    let desk = making("", "outputs = [\"a\"]");
    for (name, program) in [
        ("not_on_path", "no-such-program"),
        ("no_such_file", "./no-such-program"),
        ("not_executable", "./make.sh"),
        ("no_interpreter", "./bad"),
    ] {
        desk.write("bad", "#!/no/such/interpreter\n");
        fs::set_permissions(desk.path("bad"), PermissionsExt::from_mode(0o755)).unwrap();
        desk.write(
            "make.toml",
            stage("make", "make.sh", "outputs = [\"a\"]")
                .replace("\"sh\"", &format!("\"{program}\""))
                .replace("pin_program = false\n", ""),
        );
        let ran = desk.pipe(&["run", "make.toml"]);
        assert_ne!(ran.code, 0, "{name}: {ran}");
        ran.snapshot(name);
    }
}

#[test]
fn wrong_keys_are_reported_together() {
    let desk = Desk::tiny();
    desk.write("make.sh", "");
    let wrong = r#"
[stages.silent]
kind = "command"
command = ["sh", "make.sh", "${nothing}"]
outputs = []

[stages.wrong]
kind = "command"
command = ["sh", "make.sh", "{output}", "{inputs.raw}"]
outputs = ["../a", "listing.tsv", "/a"]
scripts = ["make.py", "images"]
env = { "A=B" = "1" }
needs = { x = "fetch//a", y = "nowhere/a" }

[stages.empty]
kind = "command"
command = []
outputs = ["a"]
"#
    .replace("${nothing}", "none");
    desk.write("wrong.toml", format!("{TINY}{wrong}"));
    desk.pipe(&["status", "wrong.toml"]).snapshot("wrong_paths_in_needs");
    desk.write(
        "wrong.toml",
        format!("{TINY}{}", wrong.replace("needs = { x = \"fetch//a\", y = \"nowhere/a\" }\n", "")),
    );
    desk.pipe(&["status", "wrong.toml"]).snapshot("wrong_keys");
    // Other kinds read a whole output, and only one with images.
    let make = stage("make", "make.sh", "outputs = [\"a\"]");
    let fed = TINY.replace(
        "explore]\nneeds = { images = \"fetch\" }",
        "explore]\nneeds = { images = \"make\" }",
    );
    let fed = fed.replace(
        "preprocess]\nneeds = { images = \"fetch\" }",
        "preprocess]\nneeds = { images = \"make/images\" }",
    );
    let fed = fed.replace("model = \"train\"", "model = \"make\"");
    desk.write("fed.toml", format!("{fed}\n{make}"));
    desk.pipe(&["status", "fed.toml"]).snapshot("what_a_command_cannot_feed");
}

#[test]
fn a_timeout_stops_the_program_and_all_it_started() {
    let script = "echo $$ > pid\nsleep 600 &\necho $! > child\necho waiting\nwait\n";
    let desk = making(script, "outputs = [\"a\"]\ntimeout = 1.5");
    let since = Instant::now();
    desk.pipe(&["run", "make.toml"]).snapshot("timeout");
    assert!(since.elapsed() < Duration::from_secs(9), "{:?}", since.elapsed());
    assert_gone(&desk);
}

#[test]
fn the_program_ends_with_a_killed_run() {
    let script = "trap '' TERM\nsleep 600 &\necho $! > child\necho $$ > pid\nwait\n";
    let desk = making(script, "outputs = [\"a\"]");
    let mut run = desk.start(&["run", "make.toml"]);
    wait_for("the program to start", SOON, || {
        fs::read_to_string(desk.path("pid")).is_ok_and(|text| text.ends_with('\n'))
    });
    run.kill().unwrap();
    run.wait().unwrap();
    assert_gone(&desk);
}

/// Waits until the processes in the files `pid` and `child` are gone.
fn assert_gone(desk: &Desk) {
    for name in ["pid", "child"] {
        let id = desk.read(name).trim().to_owned();
        wait_for("the end of a process", SOON, || {
            let status = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
            status.is_empty() || status.contains(") Z ")
        });
    }
}

#[test]
fn a_script_that_changes_while_it_runs_is_not_believed() {
    let desk = making("echo 1 > \"$1/a\"\necho '# more' >> make.sh\n", "outputs = [\"a\"]");
    desk.pipe(&["run", "make.toml"]).snapshot("a_script_that_changes");
}
