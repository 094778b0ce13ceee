//! `pipe checkout RUN`: writes the pipeline file of a run, as it was, and the pins of its remote
//! sources.

use super::failure::Failure;
use super::shared::{StoreArguments, shell_word, shown};
use crate::common::words::and_list;
use crate::runs::{self, PipelineFile, Record, Results};
use crate::ui;
use clap::Args;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// The file of pins, beside the pipeline file.
const PINS: &str = "pipe.lock";

/// Write the pipeline file of a run, as it was, and its pinned sources
///
/// The file is written beside the one that was run, so that relative paths stay right, with the
/// run's id in its name; files that it extends, too. `pipe.lock` is written if there is none.
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
    let record = runs::find(&store.runs_folder(), &arguments.run)?;
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

/// The files under names with the run's id, which they extend each other by.
fn renamed(files: &[PipelineFile], id: &str) -> Vec<(String, String)> {
    let name = |file: &PipelineFile| {
        let path = Path::new(&file.name);
        let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        format!("{stem}-{id}.toml")
    };
    let extends = |line: &str| -> Option<String> {
        let (key, value) = line.split_once('=')?;
        let file = files.iter().skip(1).find(|file| {
            let base = Path::new(&file.name).file_name().unwrap_or_default().to_string_lossy();
            let value = value.trim().trim_matches(['"', '\'']);
            Path::new(value).file_name().is_some_and(|name| name.to_string_lossy() == base)
        })?;
        (key.trim() == "extends").then(|| format!("extends = \"{}\"", name(file)))
    };
    let text = |file: &PipelineFile| {
        let lines = file.text.lines().map(|line| extends(line).unwrap_or_else(|| line.to_owned()));
        lines.collect::<Vec<_>>().join("\n") + "\n"
    };
    files.iter().map(|file| (name(file), text(file))).collect()
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
