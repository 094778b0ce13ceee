//! The same graph of five stages for ninja, DVC and Snakemake over the image files in `images`.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The command that runs a peer once more.
pub(crate) type Rerun = Box<dyn Fn() -> Command>;

pub(crate) fn is_installed(name: &str) -> bool {
    let status =
        Command::new(name).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}

/// Writes the files of the peers that are on PATH and runs each once.
pub(crate) fn prepare(folder: &Path) -> Vec<(&'static str, Rerun)> {
    type Write = fn(&Path);
    let all: [(&str, Write, &[&str]); 3] = [
        ("ninja", ninja, &[]),
        ("dvc", dvc, &["repro", "-q"]),
        ("snakemake", snakemake, &["-c1", "-q"]),
    ];
    let installed = all.into_iter().filter(|(name, ..)| is_installed(name));
    let prepared = installed.map(|(name, write, arguments)| {
        write(folder);
        let folder = folder.to_owned();
        let rerun = move || in_folder(name, arguments, &folder);
        succeed(rerun());
        (name, Box::new(rerun) as Rerun)
    });
    prepared.collect()
}

fn in_folder(name: &str, arguments: &[&str], folder: &Path) -> Command {
    let mut command = Command::new(name);
    command.args(arguments).current_dir(folder);
    command
}

fn succeed(mut command: Command) {
    let status = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
    assert!(status.is_ok_and(|status| status.success()), "{command:?} failed");
}

/// The image files, relative to the folder, sorted.
fn images(folder: &Path) -> Vec<String> {
    let files = walkdir::WalkDir::new(folder.join("images")).sort_by_file_name().into_iter();
    let files = files.map(|entry| entry.expect("a readable folder"));
    let files = files.filter(|entry| entry.file_type().is_file()).map(walkdir::DirEntry::into_path);
    let relative = |path: PathBuf| {
        path.strip_prefix(folder).expect("it is in the folder").to_string_lossy().into_owned()
    };
    files.map(relative).collect()
}

fn write(folder: &Path, name: &str, text: &str) {
    std::fs::write(folder.join(name), text).expect("a file can be written");
}

fn ninja(folder: &Path) {
    let mut text = "rule touch\n  command = touch $out\n".to_owned();
    let inputs = images(folder).join(" ");
    for stage in 1..=5 {
        let input = if stage == 1 { inputs.clone() } else { format!("n{}", stage - 1) };
        writeln!(text, "build n{stage}: touch {input}").expect("a string takes text");
    }
    write(folder, "build.ninja", &text);
}

fn snakemake(folder: &Path) {
    let mut text = "import glob\nrule all:\n    input: \"s5\"\n".to_owned();
    for stage in 1..=5 {
        let input = match stage {
            1 => "sorted(glob.glob(\"images/*/*\"))".to_owned(),
            _ => format!("\"s{}\"", stage - 1),
        };
        writeln!(
            text,
            "rule r{stage}:\n    input: {input}\n    output: \"s{stage}\"\n    shell: \"touch {{output}}\""
        )
        .expect("a string takes text");
    }
    write(folder, "Snakefile", &text);
}

fn dvc(folder: &Path) {
    succeed(in_folder("git", &["init", "-q"], folder));
    succeed(in_folder("dvc", &["init", "-q"], folder));
    let stages = [
        ("fetch", "cp -r images raw", "images", "raw"),
        ("explore", "find raw | wc -l > report.txt", "raw", "report.txt"),
        ("preprocess", "cat raw/*/* > records.bin", "raw", "records.bin"),
        ("train", "wc -c records.bin > model.txt", "records.bin", "model.txt"),
        ("evaluate", "cp model.txt metrics.txt", "model.txt", "metrics.txt"),
    ];
    let mut text = "stages:\n".to_owned();
    for (name, command, needs, makes) in stages {
        writeln!(text, "  {name}: {{cmd: \"{command}\", deps: [{needs}], outs: [{makes}]}}")
            .expect("a string takes text");
    }
    write(folder, "dvc.yaml", &text);
}
