//! `pipe export RUN`: writes the model of a run for other programs, runs what was written on test
//! images, and says how it differs from the model.

mod facts;
mod folder;

use super::failure::Failure;
use super::shared::{StoreArguments, shell_word, shown};
use super::show::{announced_run_with_model, intact_model_stage_of};
use super::signals::cancel_on_interrupt;
use crate::common::number::bytes;
use crate::events::CancellationToken;
use crate::model::{
    CONFIG, Check, Exported, ExportedFile, Model, ONNX, OnnxInput, Reference, SAFETENSORS,
};
use crate::runs::{Record, Results, StageRecord};
use crate::store::Store;
use crate::ui::{self, Side, Style, Table};
use clap::{Args, ValueEnum};
use facts::Facts;
use folder::{CARD, EXPORT, Folder};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Write the model of a run for PyTorch, timm or ONNX Runtime
///
/// The folder also gets a model card, MODEL.md, with data, licences, metrics and the code that loads
/// the model, and export.json with the same for programs. Before the command succeeds, each file is
/// read back and run on test images; it fails where the logits differ from the model's by more than
/// rounding. PyTorch, timm and ONNX Runtime themselves are not run.
#[derive(Args)]
#[command(after_help = "Examples:
  pipe export @0 --format safetensors             writes export-k3x9qa/model.safetensors
  pipe export best --format onnx --out shoes      writes shoes/model.onnx
  pipe export @0 --format safetensors,onnx        both in one folder
  pipe export @0 --format onnx --input pixels     with the normalization inside")]
pub(super) struct Arguments {
    /// The run whose model to export: an id, a unique prefix of one, a name, @0 (the latest that has
    /// a model), @1, …
    #[arg(value_name = "RUN")]
    run: String,
    /// What to write; several with commas between them
    #[arg(long, value_name = "FORMAT", value_enum, required = true, value_delimiter = ',')]
    format: Vec<Format>,
    /// The folder to write [default: export-RUN]
    #[arg(long, short, value_name = "DIR")]
    out: Option<PathBuf>,
    /// The input of the ONNX model [default: normalized]
    #[arg(long, value_enum)]
    input: Option<Input>,
    /// Run the files on at most N images of the test split, at equal distances; 0 runs nothing
    #[arg(long, value_name = "N", default_value_t = 2000)]
    verify: usize,
    /// Replace the folder if it is an earlier export
    #[arg(long)]
    force: bool,
    /// The train stage whose model to export, if the run has several
    #[arg(long, value_name = "STAGE")]
    stage: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    store: StoreArguments,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Weights with torchvision's names, and timm's config.json
    Safetensors,
    /// A network of opset 17 with folded norms, for any batch size
    Onnx,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Input {
    /// Normalized images, as MODEL.md describes
    Normalized,
    /// Pixels of 0 to 255, which the model normalizes
    Pixels,
}

impl Arguments {
    fn writes(&self, format: Format) -> bool {
        self.format.contains(&format)
    }

    fn onnx_input(&self) -> OnnxInput {
        match self.input {
            Some(Input::Pixels) => OnnxInput::Pixels,
            Some(Input::Normalized) | None => OnnxInput::Normalized,
        }
    }

    /// The same command for this run, with the options that change what is written.
    fn command(&self, record: &Record, out: &Path) -> String {
        let formats = [(Format::Safetensors, "safetensors"), (Format::Onnx, "onnx")];
        let formats = formats.into_iter().filter(|(format, _)| self.writes(*format));
        let formats = formats.map(|(_, name)| name).collect::<Vec<_>>().join(",");
        let mut command = format!("pipe export {} --format {formats}", record.id);
        if self.input.is_some() {
            command += &format!(" --input {}", self.onnx_input().name());
        }
        if let Some(stage) = &self.stage {
            command += &format!(" --stage {}", shell_word(Path::new(stage)));
        }
        // The place of the folder is nobody's business.
        match out.file_name() {
            Some(name) if self.out.is_some() => {
                command + &format!(" --out {}", shell_word(Path::new(name)))
            }
            _ => command,
        }
    }
}

pub(super) fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    if arguments.input.is_some() && !arguments.writes(Format::Onnx) {
        return Err(Failure::invalid("`--input` is for `--format onnx`").help(
            "weights have no input of their own: MODEL.md and config.json say how images are prepared",
        ));
    }
    let store = arguments.store.open_existing()?;
    let record = announced_run_with_model(&store, &arguments.run, arguments.stage.as_deref())?;
    let default = || PathBuf::from(format!("export-{}", record.id));
    let out = arguments.out.clone().unwrap_or_else(default);
    let folder = Folder::at(&out, arguments.force)?;
    let (stage, file) = intact_model_stage_of(&store, &record, arguments.stage.as_deref())?;
    let model = Model::open(&file)?;
    let cancel = CancellationToken::new();
    cancel_on_interrupt(&cancel)?;
    let cancelled = || cancel.is_cancelled();
    let reference = match arguments.verify {
        0 => None,
        limit => {
            let images = images_of(&store, &record, stage)?;
            ui::note("running the model and the exported files on images of the run\n");
            Some(Reference::new(&model, &images, limit, &cancelled)?)
        }
    };
    let mut exported = Facts::of(&store, &record, stage).exported(&model);
    exported.command = arguments.command(&record, &out);
    let checks = write(arguments, &model, folder.path(), reference.as_ref(), &mut exported)?;
    exported.checks = checks;
    exported.files = files(folder.path())?;
    let scores = facts::scores(&store, &record, stage);
    folder.write(EXPORT, &json_text(&exported)?)?;
    folder.write(CARD, &exported.card(&scores))?;
    folder.finish()?;
    if arguments.json {
        ui::json(&json!({ "folder": out, "export": exported }))?;
    } else {
        ui::out(&summary(&exported, &out))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The tensor cache that the model was trained on.
fn images_of(store: &Store, record: &Record, stage: &StageRecord) -> Result<PathBuf, Failure> {
    let results = Results::of(record).with_store(store);
    let artifact = stage.needs.get("data").and_then(|data| results.artifact(data));
    artifact.ok_or_else(|| {
        let message = format!("the images of run {} are no longer in the store", record.id);
        Failure::failed(message).help(format!(
            "`pipe run {}` makes them again; `--verify 0` exports without running the files",
            record.file
        ))
    })
}

/// Writes the model's files, and checks them as soon as each is there.
fn write(
    arguments: &Arguments,
    model: &Model,
    folder: &Path,
    reference: Option<&Reference>,
    exported: &mut Exported,
) -> Result<Vec<Check>, Failure> {
    let mut checks = Vec::new();
    if arguments.writes(Format::Safetensors) {
        model.export_safetensors(folder)?;
        exported.not_for_timm = model.export_config(folder)?;
        checks.extend(reference.map(|reference| reference.check_safetensors(folder)).transpose()?);
    }
    if arguments.writes(Format::Onnx) {
        let input = arguments.onnx_input();
        model.export_onnx(input, folder)?;
        exported.onnx_input = Some(input);
        checks.extend(reference.map(|reference| reference.check_onnx(folder, input)).transpose()?);
    }
    Ok(checks)
}

/// The files that other programs read, in the order of the card.
fn files(folder: &Path) -> Result<Vec<ExportedFile>, Failure> {
    let written = [SAFETENSORS, CONFIG, ONNX].into_iter().filter(|name| folder.join(name).exists());
    written.map(|name| folder::described(folder, name)).collect()
}

fn json_text(exported: &Exported) -> Result<String, Failure> {
    let text = serde_json::to_string_pretty(exported);
    let text = text.map_err(|error| Failure::failed(format!("{EXPORT} can't be made: {error}")))?;
    Ok(text + "\n")
}

fn summary(exported: &Exported, out: &Path) -> String {
    let mut table = Table::new([("file", Side::Left), ("size", Side::Right)]);
    for file in &exported.files {
        table.row([shown(&out.join(&file.name)), bytes(file.bytes)]);
    }
    for name in [CARD, EXPORT] {
        table.row([shown(&out.join(name)), String::new()]);
    }
    let mut text = table.render(Style::stdout());
    text.push('\n');
    for check in &exported.checks {
        text.push_str(&format!("{}\n", check.in_words()));
    }
    if let Some(reason) = &exported.not_for_timm {
        text.push_str(&format!("no `{CONFIG}` was written: {reason}\n"));
    }
    text.push_str(match exported.checks.is_empty() {
        true => "the files were not run\n",
        false => "PyTorch, timm and ONNX Runtime were not run\n",
    });
    text
}
