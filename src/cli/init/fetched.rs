//! Archives and remote data sets for `pipe init`: fetched into the store by the stage that a run would
//! use.

use super::super::lock_file::LockFile;
use super::super::run::exit_code;
use super::super::signals;
use super::{Arguments, Look, Origin, beside, canonical};
use crate::cli::failure::Failure;
use crate::cli::plan;
use crate::common::nearest;
use crate::config::{self, quoted};
use crate::engine::{self, Options};
use crate::events::{CancellationToken, Event};
use crate::stages::{self, KINDS};
use crate::store::Store;
use crate::ui::{OutputMode, Reporter};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// The name of the only stage.
const STAGE: &str = "fetch";

/// A source that isn't a folder, with its images fetched. An exit code if fetching failed, which was
/// reported.
pub(super) fn look(given: &Path, arguments: &Arguments) -> Result<Result<Look, ExitCode>, Failure> {
    let (name, source, absolute, beside) = match given.is_file() {
        true => archive(given, arguments)?,
        false => {
            let (name, text) = remote(&arguments.source)?;
            (name, text.clone(), text, None)
        }
    };
    let origin = if beside.is_some() { Origin::Archive } else { Origin::Remote };
    let artifact = match fetch(&absolute, arguments)? {
        Ok(artifact) => artifact,
        Err(code) => return Ok(Err(code)),
    };
    let Some(folder) = stages::fetched_images(&artifact) else {
        let message = format!("`{}` has no images: it has weights", arguments.source);
        let help = "name a folder, an archive or a data set of images";
        return Err(Failure::failed(message).help(help));
    };
    Ok(Ok(Look { name, source, origin, folder, beside }))
}

/// The name of a pipeline, its source as in the file that is written and as it is fetched now, and the
/// folder beside it.
type Described = (String, String, String, Option<(PathBuf, PathBuf)>);

fn archive(given: &Path, arguments: &Arguments) -> Result<Described, Failure> {
    let absolute = canonical(given)?;
    let file_name = absolute.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let name = stages::archive_name(&file_name).unwrap_or(&file_name).to_owned();
    let source = arguments.path_from_output(given, &absolute)?;
    let beside = beside(&absolute, &source);
    Ok((name, format!("path:{source}"), format!("path:{}", absolute.display()), beside))
}

/// The name and the source of a remote data set.
fn remote(text: &str) -> Result<(String, String), Failure> {
    if let Some(name) = stages::remote_name(text) {
        return Ok((name, text.to_owned()));
    }
    let near =
        text.split_once(':').and_then(|(scheme, _)| nearest(scheme, ["kaggle", "hf", "https"]));
    let help = match near {
        Some(near) => format!("did you mean `{near}:`?"),
        None if stages::archive_name(text).is_some() => "check the path".to_owned(),
        None => "name a folder, an archive, kaggle:OWNER/NAME, hf:OWNER/NAME or an https: address of an archive".to_owned(),
    };
    Err(Failure::invalid(format!("there is no folder or archive `{text}`")).help(help))
}

/// Fetches a source. The artifact, or an exit code if the stage failed or was interrupted.
fn fetch(source: &str, arguments: &Arguments) -> Result<Result<PathBuf, ExitCode>, Failure> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("init.toml");
    let config = arguments.config.as_deref();
    let config = config.map_or(String::new(), |name| format!("config = {}\n", quoted(name)));
    std::fs::write(&file, format!("[stages.{STAGE}]\nsource = {}\n{config}", quoted(source)))?;
    let graph = engine::graph(&config::load(&file, &[])?, KINDS)?;
    let store = arguments.store.open()?;
    let output = arguments.output.as_deref().filter(|_| !arguments.prints());
    LockFile::beside(output.unwrap_or(&file_here()))?.apply(&graph, &store)?;
    let cancel = CancellationToken::new();
    signals::cancel_on_interrupt(&cancel)?;
    run(&graph, &store, &cancel)
}

/// A file in the current directory: a lock beside it is used.
fn file_here() -> PathBuf {
    PathBuf::from("init.toml")
}

fn run(
    graph: &engine::Graph,
    store: &Store,
    cancel: &CancellationToken,
) -> Result<Result<PathBuf, ExitCode>, Failure> {
    let cores = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    let options = Options { threads: cores.get(), ..Options::default() };
    let plan = plan::make(graph, store, &options, cancel)?;
    let mut reporter = Reporter::new(OutputMode::Text { quiet: plan.is_fresh() });
    let handle = &mut |event: &Event| reporter.handle(event);
    let report = engine::execute(graph, plan, store, &options, cancel, handle)?;
    let stage = report.stages.into_iter().find(|stage| stage.stage == STAGE);
    let artifact = stage.and_then(|stage| stage.artifact).map(|artifact| artifact.path);
    Ok(artifact.ok_or_else(|| exit_code(report.outcome)))
}
