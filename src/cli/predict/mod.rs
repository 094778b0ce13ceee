//! `pipe predict MODEL IMAGE…`: classifies any number of images and writes their rows as they come.

mod explanations;
mod inputs;
mod output;

use super::chosen_model::ModelArguments;
use super::failure::{Failure, INTERRUPTED};
use super::signals::cancel_on_interrupt;
use crate::common::number::{counted, thousands};
use crate::config::DeviceChoice;
use crate::events::CancellationToken;
use crate::metrics::top_k;
use crate::model::{Classified, ImageScores, Model};
use crate::ui::{self, Live};
use clap::{Args, ValueEnum};
use explanations::Explanations;
use inputs::inputs;
use output::{Output, Row};
use std::path::PathBuf;
use std::process::ExitCode;

/// Classify images with the model of a run or a model file
///
/// Rows are written as they come, in the order of the images. Images that can't be read, or of which
/// more is missing than the model's preprocessing allows, are named, the others classified; the exit
/// code is 1 then.
#[derive(Args)]
#[command(after_help = "Examples:
  pipe predict @0 shirt.jpg                with the model of the latest run
  pipe predict @0 holiday/ --top 3         the three most likely classes
  pipe predict k3f holiday/ --format csv   with the model of run k3f…
  pipe predict model.safetensors holiday/  with a model file
  find . -name '*.jpg' | pipe predict @0 - --format jsonl
                                           images by a list of their paths
  pipe predict @0 holiday/ --explain why/  also where each class was seen")]
pub(super) struct Arguments {
    #[command(flatten)]
    model: ModelArguments,
    /// Images, and folders of images (searched recursively); `-` alone reads standard input: one
    /// path per line, or one image
    #[arg(value_name = "IMAGE|FOLDER|-", required = true)]
    images: Vec<PathBuf>,
    /// Show the K most likely classes of each image
    #[arg(long, value_name = "K", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    top: u16,
    /// Output format
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
    /// The same as --format json
    #[arg(long, conflicts_with = "format")]
    json: bool,
    /// What computes the network: auto, cpu, cuda or cuda:N. A GPU takes seconds to start, which pays
    /// for thousands of images
    #[arg(long, value_name = "DEVICE", default_value = "cpu")]
    device: DeviceChoice,
    /// Write each image to DIR under a heat map of the regions that speak for its class (Grad-CAM)
    #[arg(long, value_name = "DIR")]
    explain: Option<PathBuf>,
    /// Paths on standard input end in NUL rather than in a line end, as `find -print0` writes them
    #[arg(short = '0', long)]
    null: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Aligned columns
    Table,
    /// Comma-separated values with a header, a line per image and rank
    Csv,
    /// One JSON document: predictions and unreadable images
    Json,
    /// JSON lines, one per image; of an unreadable one with an `error`
    Jsonl,
}

pub(super) fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let inputs = inputs(&arguments.images, arguments.null)?;
    let model = arguments.model.open_on(arguments.device)?;
    let explanations = arguments.explain.as_deref();
    let explanations = explanations.map(|folder| Explanations::new(folder, &model)).transpose()?;
    let format = if arguments.json { Format::Json } else { arguments.format };
    let top = usize::from(arguments.top);
    let output = Output::new(format, top, model.classes(), explanations.is_some());
    let cancel = CancellationToken::new();
    cancel_on_interrupt(&cancel)?;
    let live = Live::new("predict", "classify", inputs.total);
    let mut run = Prediction { model: &model, output, explanations, top, live, read: 0, all: 0 };
    let mut classifying = model.classify(inputs.images)?;
    let mut is_read = run.print(|output| output.start())?;
    while is_read && let Some(batch) = classifying.next(|| cancel.is_cancelled())? {
        is_read = run.batch(batch)?;
    }
    if cancel.is_cancelled() {
        return Ok(ExitCode::from(INTERRUPTED));
    }
    run.finish(is_read)
}

/// A run of the command.
struct Prediction<'a> {
    model: &'a Model,
    output: Output,
    explanations: Option<Explanations>,
    top: usize,
    live: Live,
    /// Images that could be read.
    read: u64,
    all: u64,
}

impl Prediction<'_> {
    /// Prints a part of the output; false once nobody reads it.
    fn print(&mut self, part: impl FnOnce(&mut Output) -> String) -> Result<bool, Failure> {
        let text = part(&mut self.output);
        Ok(text.is_empty() || self.live.above(|| ui::part(&text))?)
    }

    /// Prints the results of some images.
    fn batch(&mut self, batch: Vec<Classified>) -> Result<bool, Failure> {
        let count = batch.len() as u64;
        let mut files = match &mut self.explanations {
            Some(explanations) => explanations.write(self.model, &batch, self.all)?,
            None => Vec::new(),
        }
        .into_iter();
        let mut is_read = true;
        for Classified { name, scores } in batch {
            let file = files.next().flatten();
            is_read &= match scores {
                Ok(scores) => self.row(name, &scores, file)?,
                Err(reason) => self.unreadable(name, reason)?,
            };
        }
        self.all += count;
        self.live.advance(count);
        Ok(is_read)
    }

    fn row(
        &mut self,
        path: String,
        scores: &ImageScores,
        explanation: Option<String>,
    ) -> Result<bool, Failure> {
        self.read += 1;
        if let Some(reason) = &scores.warning {
            self.warn(&format!("`{path}`: {reason}"));
        }
        let name = |class: usize| self.model.classes().get(class).cloned().unwrap_or_default();
        let top = top_k(&scores.probabilities, self.top);
        let top: Vec<_> = top.into_iter().map(|(class, p)| (name(class), p)).collect();
        let (class, probability) = top.first().cloned().unwrap_or_default();
        let row = Row { path, class, probability, top, explanation };
        self.print(|output| output.row(row, scores.warning.clone()))
    }

    fn unreadable(&mut self, path: String, reason: String) -> Result<bool, Failure> {
        self.warn(&format!("skipped `{path}`: {reason}"));
        self.print(|output| output.unreadable(path, reason))
    }

    /// Prints a warning, unless the output has it.
    fn warn(&self, text: &str) {
        if !self.output.has_warnings() {
            self.live.above(|| ui::warning(text));
        }
    }

    fn finish(mut self, is_read: bool) -> Result<ExitCode, Failure> {
        if is_read {
            self.print(Output::end)?;
        }
        let (all, left) = (self.all, self.all - self.read);
        if let Some(folder) =
            self.explanations.as_ref().map(Explanations::folder).filter(|_| self.read > 0)
        {
            self.live.above(|| ui::note(&format!("explanations are in {folder}\n")));
        }
        match (self.read, left) {
            (0, 0) if is_read => Err(Failure::failed("standard input names no images")),
            (0, 1..) => Err(Failure::failed("none of the images could be read")),
            (_, 1..) => Err(Failure::failed(format!(
                "{} of {} could not be read",
                thousands(left),
                counted(all, "image")
            ))),
            (_, 0) => Ok(ExitCode::SUCCESS),
        }
    }
}
