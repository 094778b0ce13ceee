//! `pipe evaluate MODEL FOLDER`: scores a model on a folder of labelled images, with the outputs of
//! the kind `evaluate`.

mod labelled;

use super::chosen_model::ModelArguments;
use super::failure::{Failure, INTERRUPTED};
use super::shared::shown;
use super::show;
use super::signals::cancel_on_interrupt;
use super::summary::{METRICS, PREDICTIONS, headline};
use crate::common::number::{self, counted, thousands};
use crate::common::replace::replace_file;
use crate::common::words::shortened_list;
use crate::events::CancellationToken;
use crate::metrics::{Curves, Evaluation, Scoring, ScoringError};
use crate::model::{Classified, Model};
use crate::ui::{self, Live, Side, Style, Table};
use clap::Args;
use labelled::{Labelled, labelled};
use serde::Serialize;
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fs;
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use tempfile::NamedTempFile;

/// The split that the images count as, whatever their folder is called.
const SPLIT: &str = "test";
/// The curves, beside the metrics.
const CURVES: &str = "curves.json";
/// Confusions that are printed.
const CONFUSIONS: usize = 10;
/// Names in a warning.
const NAMES: usize = 10;

/// Score a model on a folder of labelled images
///
/// The class of an image is the name of its folder, which must be exactly that of a class of the
/// model. Images in other folders are left out and named, and so are those that can't be read; the
/// exit code is 1 then if one couldn't be read.
#[derive(Args)]
#[command(after_help = "Examples:
  pipe evaluate @0 new/                      the model of the latest run on new/CLASS/…
  pipe evaluate @0 pets/ --split test        images in pets/test/CLASS/…
  pipe evaluate model.safetensors new/ --out scores
                                             also scores/metrics.json and scores/predictions.csv")]
pub(super) struct Arguments {
    #[command(flatten)]
    model: ModelArguments,
    /// The folder, with a folder of images for each class
    #[arg(value_name = "FOLDER")]
    folder: PathBuf,
    /// The folder to score where there are folders of an author's split, such as `train` and `test`
    #[arg(long, value_name = "NAME")]
    split: Option<String>,
    /// Write metrics.json, curves.json and predictions.csv to this folder, as the kind `evaluate` does
    #[arg(long, short, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What is printed as JSON.
#[derive(Serialize)]
struct Report<'a> {
    metrics: &'a Evaluation,
    unreadable: &'a [Unreadable],
    /// Images of no class of the model, by their folder.
    left_out: &'a BTreeMap<String, u64>,
    out: Option<String>,
}

/// What the images were scored to.
struct Scored {
    evaluation: Evaluation,
    curves: Option<Curves>,
    unreadable: Vec<Unreadable>,
}

/// An image that can't be read.
#[derive(Serialize)]
struct Unreadable {
    path: String,
    reason: String,
}

pub(super) fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let model = arguments.model.open()?;
    let images = labelled(&arguments.folder, arguments.split.as_deref(), model.classes())?;
    let cancel = CancellationToken::new();
    cancel_on_interrupt(&cancel)?;
    let out = arguments.out.as_deref();
    let predictions = out.map(temporary).transpose()?;
    let Some(scores) = score(&model, &images, predictions.as_ref(), &cancel)? else {
        return Ok(ExitCode::from(INTERRUPTED));
    };
    let (scored, left_out) = (scores.unreadable.len() < images.images.len(), &images.left_out);
    let out = out.filter(|_| scored);
    if let (Some(folder), Some(predictions)) = (out, predictions) {
        write(folder, predictions, &scores)?;
    }
    let Scored { evaluation, unreadable, .. } = scores;
    if arguments.json {
        let out = out.map(|folder| folder.display().to_string());
        let unreadable = &unreadable;
        ui::json(&Report { metrics: &evaluation, unreadable, left_out, out })?;
    } else if scored {
        ui::out(&text(&evaluation, out))?;
    }
    warn(&images, &evaluation);
    match unreadable.len() as u64 {
        0 => Ok(ExitCode::SUCCESS),
        _ if !scored => Err(Failure::failed("none of the images could be read")),
        left => Err(Failure::failed(format!(
            "{} of {} could not be read",
            thousands(left),
            counted(images.images.len() as u64, "image")
        ))),
    }
}

/// The file of the predictions until all are there, in the folder that `--out` names.
fn temporary(folder: &Path) -> Result<NamedTempFile, Failure> {
    let create = || {
        fs::create_dir_all(folder)?;
        let permissions = fs::Permissions::from_mode(0o666);
        tempfile::Builder::new().prefix(".pipe-").permissions(permissions).tempfile_in(folder)
    };
    create().map_err(|error| unwritten(folder, &error).into_invalid())
}

/// Puts the results into the folder.
fn write(folder: &Path, predictions: NamedTempFile, scores: &Scored) -> Result<(), Failure> {
    let path = folder.join(PREDICTIONS);
    predictions.persist(&path).map_err(|failed| unwritten(&path, &failed.error))?;
    let curves = scores.curves.as_ref().map(|curves| (CURVES, curves.to_json()));
    if curves.is_none() {
        // Those of an earlier evaluation.
        let _ = fs::remove_file(folder.join(CURVES));
    }
    for (name, text) in [(METRICS, scores.evaluation.to_json())].into_iter().chain(curves) {
        let path = folder.join(name);
        replace_file(&path, text.as_bytes()).map_err(|error| unwritten(&path, &error))?;
    }
    Ok(())
}

/// Scores the images, and writes the rows of `predictions.csv` into `predictions`. `None` if that
/// was interrupted.
fn score(
    model: &Model,
    images: &Labelled,
    predictions: Option<&NamedTempFile>,
    cancel: &CancellationToken,
) -> Result<Option<Scored>, Failure> {
    let failed = |error: io::Error| unwritten(Path::new(PREDICTIONS), &error);
    let file: Box<dyn Write> = match predictions {
        Some(file) => Box::new(BufWriter::new(file.reopen().map_err(failed)?)),
        None => Box::new(io::sink()),
    };
    let mut scoring = Scoring::new(file, model.classes()).map_err(failed)?;
    let mut unreadable = Vec::new();
    let mut labels = images.images.iter().map(|image| image.class);
    let mut live = Live::new("evaluate", "classify", Some(images.images.len() as u64));
    let mut classifying = model.classify(images.given())?;
    while let Some(batch) = classifying.next(|| cancel.is_cancelled())? {
        live.advance(batch.len() as u64);
        for (Classified { name, scores }, label) in batch.into_iter().zip(&mut labels) {
            match scores {
                Ok(scores) => {
                    if let Some(reason) = &scores.warning {
                        live.above(|| ui::warning(&format!("`{name}`: {reason}")));
                    }
                    let pushed = scoring.push(&name, SPLIT, Some(label), &scores.probabilities);
                    pushed.map_err(|error| match error {
                        ScoringError::Write(error) => failed(error),
                        error => Failure::failed(error.to_string()),
                    })?;
                }
                Err(reason) => {
                    live.above(|| ui::warning(&format!("skipped `{name}`: {reason}")));
                    unreadable.push(Unreadable { path: name, reason });
                }
            }
        }
    }
    if cancel.is_cancelled() {
        return Ok(None);
    }
    let (evaluation, curves) = scoring.finish().map_err(failed)?;
    Ok(Some(Scored { evaluation, curves, unreadable }))
}

fn unwritten(path: &Path, error: &io::Error) -> Failure {
    Failure::failed(format!("failed to write `{}`: {error}", shown(path)))
}

/// Warns of what was left out, and of what nothing is known.
fn warn(images: &Labelled, evaluation: &Evaluation) {
    let left_out: u64 = images.left_out.values().sum();
    if left_out > 0 {
        let names = shortened_list(images.left_out.keys().map(String::as_str), NAMES);
        ui::warning(&format!(
            "{} left out: the model has no class of the name {names}",
            counted(left_out, "image")
        ));
    }
    if images.strays > 0 {
        let strays = counted(images.strays, "image");
        ui::warning(&format!("{strays} left out: no folder says the class"));
    }
    let missing = evaluation.without_test_images();
    if !missing.is_empty() {
        let names = shortened_list(missing, NAMES);
        ui::warning(&format!("there are no images of {names}, so their accuracy is unknown"));
    }
}

fn text(evaluation: &Evaluation, out: Option<&Path>) -> String {
    let style = Style::stdout();
    let mut text = show::splits(style, evaluation) + "\n" + &show::classes(style, evaluation);
    let confusions = confusions(style, evaluation);
    if !confusions.is_empty() {
        text.push_str(&format!("\n{confusions}"));
    }
    if let Some(headline) = headline(evaluation) {
        text.push_str(&format!("\n{}\n", style.bold(&headline)));
    }
    for (name, file) in [("metrics", METRICS), ("predictions", PREDICTIONS)] {
        if let Some(folder) = out {
            text.push_str(&format!("{name:<13}{}\n", shown(&folder.join(file))));
        }
    }
    text
}

/// The most frequent confusions; empty without any.
fn confusions(style: Style, evaluation: &Evaluation) -> String {
    let Some(split) = evaluation.splits.get(SPLIT) else { return String::new() };
    let mut found: Vec<(u64, usize, usize)> = Vec::new();
    for (truth, row) in split.confusion.iter().enumerate() {
        let wrong = row.iter().enumerate().filter(|(class, count)| *class != truth && **count > 0);
        found.extend(wrong.map(|(class, count)| (*count, truth, class)));
    }
    if found.is_empty() {
        return String::new();
    }
    found.sort_by_key(|&(count, truth, class)| (Reverse(count), truth, class));
    let columns = [
        ("most often confused", Side::Left),
        ("taken for", Side::Left),
        ("images", Side::Right),
        ("of the class", Side::Right),
    ];
    let mut table = Table::new(columns);
    let name = |class: usize| evaluation.classes.get(class).cloned().unwrap_or_default();
    for (count, truth, class) in found.into_iter().take(CONFUSIONS) {
        let all = split.per_class.get(truth).map_or(0, |row| row.support);
        let share = number::percent(count as f64 / all.max(1) as f64);
        table.row([name(truth), name(class), thousands(count), share]);
    }
    table.render(style)
}
