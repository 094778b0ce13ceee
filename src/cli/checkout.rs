//! `pipe checkout RUN`: writes the pipeline file of a run, as it was, and the pins of its remote
//! sources.

use super::failure::Failure;
use super::shared::{StoreArguments, find_run, shell_word, shown};
use crate::common::words::and_list;
use crate::runs::{PipelineFile, Record, Results};
use crate::ui;
use clap::Args;
use std::path::{Component, Path, PathBuf};
use std::process::ExitCode;

/// The file of pins, beside the pipeline file.
const PINS: &str = "pipe.lock";

/// Write the pipeline file of a run, as it was, and its pinned sources
///
/// The file is written beside the one that was run, so that relative paths stay right, with the
/// run's id in its name; files that it extends, too. `pipe.lock` is written beside them.
#[derive(Args)]
#[command(after_help = "Examples:
  pipe checkout @3                    writes photos-k3x9qa.toml
  pipe checkout best --folder old     writes old/photos-k3x9qa.toml and old/pipe.lock")]
pub(super) struct Arguments {
    /// The run: an id, a unique prefix of one, a name, @0, @1, …
    #[arg(value_name = "RUN")]
    run: String,
    /// Write into this folder; relative paths in the file start there then
    #[arg(long, value_name = "DIR")]
    folder: Option<PathBuf>,
    /// Replace files that are there with other contents
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    store: StoreArguments,
}

pub(super) fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let store = arguments.store.open_existing()?;
    let record = find_run(&store, &arguments.run)?;
    let results = Results::of(&record);
    let input = results.pipeline_input().filter(|input| !input.files.is_empty());
    let Some(input) = input else {
        let message = format!("run {} has no copy of its pipeline file", record.id);
        return Err(Failure::failed(message));
    };
    let folder = match &arguments.folder {
        Some(folder) => folder.clone(),
        None => folder_of(&record),
    };
    let mut files: Vec<(PathBuf, String)> = renamed(&input.files, record.id.as_str())
        .into_iter()
        .map(|(name, text)| (folder.join(name), text))
        .collect();
    let pipeline = files[0].0.clone();
    files.extend(results.pins().map(|text| (folder.join(PINS), text)));
    write(&folder, &files, arguments.force)?;
    for (path, _) in &files {
        ui::out(&format!("wrote {}\n", shown(path)))?;
    }
    let sets = input.overrides.iter().map(|pair| format!(" --set {}", shell_word(Path::new(pair))));
    let command = format!("pipe run {}{}", shell_word(&pipeline), sets.collect::<String>());
    ui::out(&format!("run it with `{command}`\n"))?;
    let own = parent(&input.files[0]);
    for PipelineFile { name, .. } in input.files.iter().filter(|file| parent(file) != own) {
        ui::warning(&format!("`{name}` was in another folder: check relative paths in its copy"));
    }
    if record.version != env!("CARGO_PKG_VERSION") {
        ui::warning(&format!("the run was made by pipe {}", record.version));
    }
    Ok(ExitCode::SUCCESS)
}

/// The folder of the file that was run, if it is still there.
fn folder_of(record: &Record) -> PathBuf {
    let folder = Path::new(&record.file).parent().filter(|folder| folder.is_dir());
    folder.unwrap_or(Path::new("")).to_path_buf()
}

/// The folder that a file was in.
fn parent(file: &PipelineFile) -> PathBuf {
    let parent = Path::new(&file.name).parent().unwrap_or(Path::new(""));
    parent.components().filter(|part| *part != Component::CurDir).collect()
}

/// The files under names with the run's id, by which they extend each other: each extends the next.
fn renamed(files: &[PipelineFile], id: &str) -> Vec<(String, String)> {
    let mut names: Vec<String> = Vec::new();
    for file in files {
        let stem = Path::new(&file.name).file_stem().unwrap_or_default().to_string_lossy();
        let name = format!("{stem}-{id}.toml");
        // Files of several folders may have the same name.
        names.push(match names.contains(&name) {
            true => format!("{stem}-{id}-{}.toml", names.len() + 1),
            false => name,
        });
    }
    let text = |(at, file): (usize, &PipelineFile)| match names.get(at + 1) {
        Some(base) => extending(&file.text, base),
        None => file.text.clone(),
    };
    let texts: Vec<String> = files.iter().enumerate().map(text).collect();
    names.into_iter().zip(texts).collect()
}

/// The text of a file that extends `base` in place of the file that it extended.
fn extending(text: &str, base: &str) -> String {
    let mut is_top = true;
    let line = |line: &str| {
        is_top &= !line.trim_start().starts_with('[');
        let key = line.split_once('=').map(|(key, _)| key.trim().trim_matches(['"', '\'']));
        match is_top && key == Some("extends") {
            // A text in JSON is one in TOML.
            true => format!("extends = {}\n", serde_json::Value::from(base)),
            false => format!("{line}\n"),
        }
    };
    text.lines().map(line).collect()
}

/// Writes the files, unless one is there with another content.
fn write(folder: &Path, files: &[(PathBuf, String)], force: bool) -> Result<(), Failure> {
    let differs = |(path, text): &&(PathBuf, String)| {
        path.exists() && std::fs::read_to_string(path).ok().as_ref() != Some(text)
    };
    let others: Vec<String> = files.iter().filter(differs).map(|(path, _)| shown(path)).collect();
    if !others.is_empty() && !force {
        let names = and_list(others.iter().map(String::as_str));
        return Err(Failure::invalid(format!("{names} would be replaced"))
            .help("write elsewhere with `--folder`, or replace with `--force`"));
    }
    let failed = |path: &Path, error: std::io::Error| {
        Failure::failed(format!("failed to write `{}`: {error}", shown(path)))
    };
    if !folder.as_os_str().is_empty() {
        std::fs::create_dir_all(folder).map_err(|error| failed(folder, error))?;
    }
    for (path, text) in files {
        std::fs::write(path, text).map_err(|error| failed(path, error))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_file_extends_the_copy_of_the_next() {
        let file = |name: &str, text: &str| PipelineFile { name: name.into(), text: text.into() };
        let files = [
            file("x/photos.toml", "extends = '../photos.toml' # base\n[stages.a]\nextends = 1\n"),
            file("photos.toml", "\"extends\" = 'base.toml'"),
            file("base.toml", "[pipeline]\r\n"),
        ];
        let expected = [
            ("photos-k3.toml", "extends = \"photos-k3-2.toml\"\n[stages.a]\nextends = 1\n"),
            ("photos-k3-2.toml", "extends = \"base-k3.toml\"\n"),
            ("base-k3.toml", "[pipeline]\r\n"),
        ];
        let expected = expected.map(|(name, text)| (name.to_owned(), text.to_owned()));
        assert_eq!(renamed(&files, "k3"), expected);
    }
}
