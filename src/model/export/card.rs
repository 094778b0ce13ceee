//! What an export says of itself: `export.json` for programs, and the model card `MODEL.md` for
//! people, both from the same facts.

use super::check::Check;
use super::usage::{onnx_runtime, preprocessing_in_words, pytorch, timm, transforms};
use super::{CONFIG, ONNX, OnnxInput, SAFETENSORS};
use crate::common::markdown::plain;
use crate::common::number::{bytes, counted, measured, percent, thousands};
use crate::data::Preprocessing;
use crate::metrics::{Evaluation, SplitMetrics};
use crate::model::{Classifier, ModelInfo};
use serde::Serialize;

/// The version of `export.json`.
pub(crate) const EXPORT_FORMAT: u32 = 1;

/// Classes in a table of the card: those of larger models are in `export.json`.
const SHOWN: usize = 100;

/// The content of `export.json`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Exported {
    /// [`EXPORT_FORMAT`].
    pub format: u32,
    /// The version of pipe.
    pub version: String,
    /// The command that made it.
    pub command: String,
    pub pipeline: String,
    pub run: String,
    /// The stage that trained the model.
    pub stage: String,
    /// The digest of that stage's artifact.
    pub artifact: String,
    pub backbone: String,
    pub head: Classifier,
    /// Number of trainable values.
    pub parameters: u64,
    /// In the order of the logits.
    pub classes: Vec<String>,
    pub preprocessing: Preprocessing,
    /// The pixels that the ONNX model takes, if there is one.
    pub onnx_input: Option<OnnxInput>,
    /// Why there is no `config.json` beside the safetensors.
    pub not_for_timm: Option<String>,
    /// The weights that the training started from; none for random ones.
    pub weights: Option<DataSource>,
    /// The images.
    pub data: Option<DataSource>,
    pub images: Vec<ClassCount>,
    pub files: Vec<ExportedFile>,
    /// The result of the check of each file; empty if it was left out.
    pub checks: Vec<Check>,
}

/// Where data or weights come from.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct DataSource {
    /// As the pipeline file names it; of a folder or a file on the machine only the last name.
    pub source: String,
    /// What it is pinned to.
    pub version: Option<String>,
    /// What the source says of it.
    pub licence: Option<String>,
}

/// Number of images of a class.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct ClassCount {
    /// "unlabelled" for images without a label.
    pub class: String,
    pub train: u64,
    pub validation: u64,
    pub test: u64,
    pub unlabelled: u64,
}

/// A file of an export.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct ExportedFile {
    pub name: String,
    pub bytes: u64,
    /// As `sha256sum` prints it.
    pub sha256: String,
}

/// The evaluation of the model by a stage.
pub(crate) struct Scores {
    pub stage: String,
    pub evaluation: Evaluation,
}

impl Exported {
    /// The text of `MODEL.md`.
    pub(crate) fn card(&self, scores: &[Scores]) -> String {
        let parts = [
            self.summary(),
            self.use_of_files(),
            self.data(),
            metrics(scores),
            self.checks(),
            self.origin(),
        ];
        parts.join("\n")
    }

    fn has(&self, name: &str) -> bool {
        self.files.iter().any(|file| file.name == name)
    }

    fn summary(&self) -> String {
        let head = match &self.head {
            Classifier::Original(_) => "its published classifier".to_owned(),
            Classifier::Dense(dense) if dense.hidden.is_empty() => "a linear classifier".to_owned(),
            Classifier::Dense(dense) => {
                let hidden = dense.hidden.iter().map(usize::to_string).collect::<Vec<_>>();
                format!("a classifier with hidden layers of {} units", hidden.join(", "))
            }
        };
        let weights = match &self.weights {
            Some(weights) => format!("started from {}", weights.in_markdown()),
            None => "started from random weights".to_owned(),
        };
        format!(
            "# {}\n\nAn image classifier of {}: {} with {head}, {} parameters, {weights}.\n",
            plain(&self.pipeline),
            counted(self.classes.len() as u64, "class"),
            self.backbone,
            thousands(self.parameters),
        )
    }

    fn use_of_files(&self) -> String {
        let mut text = "## Use\n".to_owned();
        let block = |text: &mut String, sentence: &str, code: &str| {
            text.push_str(&format!("\n{sentence}\n\n```python\n{code}```\n"));
        };
        if self.has(SAFETENSORS) {
            let info = ModelInfo {
                backbone: self.backbone.clone(),
                head: self.head.clone(),
                classes: self.classes.clone(),
                preprocessing: self.preprocessing.clone(),
                bf16: false,
            };
            let sentence = "PyTorch, with torchvision's network and parameter names:";
            block(&mut text, sentence, &pytorch(&info));
            match &self.not_for_timm {
                None => block(&mut text, "timm, in this folder:", &timm()),
                Some(reason) => {
                    text.push_str(&format!("\nThere is no `{CONFIG}` for timm: {reason}.\n"));
                }
            }
        }
        if let Some(input) = self.onnx_input {
            let side = self.preprocessing.crop;
            let input = match input {
                OnnxInput::Pixels => "pixels of 0 to 255, which it normalizes",
                OnnxInput::Normalized => "normalized as below",
            };
            let sentence = format!(
                "ONNX Runtime, for `images` of float32 (batch, 3, {side}, {side}), {input}; class names are in the metadata:"
            );
            block(&mut text, &sentence, &onnx_runtime());
        }
        text.push_str(&format!(
            "\nPreprocessing: {}.\n",
            preprocessing_in_words(&self.preprocessing)
        ));
        if let Some(code) = transforms(&self.preprocessing) {
            block(&mut text, "With torchvision:", &code);
        }
        text
    }

    fn data(&self) -> String {
        let source = match &self.data {
            Some(data) => data.in_markdown(),
            None => "not on record".to_owned(),
        };
        let mut text = format!("## Data\n\nImages: {source}.\n");
        if self.images.is_empty() {
            return text;
        }
        text.push_str("\n| class | train | validation | test | unlabelled |\n");
        text.push_str("| --- | ---: | ---: | ---: | ---: |\n");
        let row = |name: &str, counts: [u64; 4]| {
            let counts = counts.map(thousands).join(" | ");
            format!("| {name} | {counts} |\n")
        };
        let counts = |one: &ClassCount| [one.train, one.validation, one.test, one.unlabelled];
        let total = |images: &[ClassCount]| {
            let all = images.iter().map(counts);
            all.fold([0; 4], |sum, one| std::array::from_fn(|at| sum[at] + one[at]))
        };
        let (shown, rest) = self.images.split_at(self.images.len().min(SHOWN));
        for one in shown {
            text.push_str(&row(&plain(&one.class), counts(one)));
        }
        if !rest.is_empty() {
            text.push_str(&row(&counted(rest.len() as u64, "more class"), total(rest)));
        }
        text.push_str(&row("**all**", total(&self.images)));
        text
    }

    fn checks(&self) -> String {
        let mut text = "## Check of the files\n\n".to_owned();
        if self.checks.is_empty() {
            text.push_str("The files were not run.\n");
        }
        for check in &self.checks {
            text.push_str(&format!("- {}\n", check.in_words()));
        }
        if self.has(ONNX) {
            text.push_str("\nONNX Runtime and other programs were not run.\n");
        }
        text
    }

    fn origin(&self) -> String {
        let mut text = format!(
            "## Origin\n\nMade by pipe {} from stage {} of run `{}` (artifact `{}`):\n\n```sh\n{}\n```\n\n",
            self.version,
            plain(&self.stage),
            self.run,
            self.artifact,
            self.command
        );
        text.push_str("| file | size | SHA-256 |\n| --- | ---: | --- |\n");
        for file in &self.files {
            let (name, size) = (&file.name, bytes(file.bytes));
            text.push_str(&format!("| `{name}` | {size} | `{}` |\n", file.sha256));
        }
        text
    }
}

impl DataSource {
    /// "hf:owner/name at commit 1a2b…, licence mit".
    fn in_markdown(&self) -> String {
        let version = self.version.as_ref().map(|version| format!(" at {}", plain(version)));
        let licence = match &self.licence {
            Some(licence) => format!("licence {}", plain(licence)),
            None => "licence not on record".to_owned(),
        };
        format!("{}{}, {licence}", plain(&self.source), version.unwrap_or_default())
    }
}

impl Check {
    /// "`model.onnx` was run on all 400 test images by pipe's reader of ONNX: …".
    pub(crate) fn in_words(&self) -> String {
        let images = match self.images == self.images_in_split {
            true => format!("all {}", counted(self.images, &format!("{} image", self.split))),
            false => format!(
                "{} of {}",
                thousands(self.images),
                counted(self.images_in_split, &format!("{} image", self.split))
            ),
        };
        let accuracy = self.accuracy.zip(self.accuracy_of_model).map(|(own, model)| {
            format!(", accuracy {} (the model's: {})", percent(own), percent(model))
        });
        format!(
            "`{}`, run by {} on {images}: largest logit difference {} (largest logit {}), {} flipped{}",
            self.file,
            self.run_by,
            measured(self.largest_difference.into()),
            measured(self.largest_logit.into()),
            counted(self.flipped, "prediction"),
            accuracy.unwrap_or_default()
        )
    }
}

fn metrics(scores: &[Scores]) -> String {
    let mut text = "## Metrics\n".to_owned();
    if scores.is_empty() {
        text.push_str("\nThe model was not evaluated.\n");
    }
    for Scores { stage, evaluation } in scores {
        text.push_str(&format!("\nBy stage {}:\n\n", plain(stage)));
        text.push_str("| split | images | accuracy | 95 % interval | macro F1 | loss |\n");
        text.push_str("| --- | ---: | ---: | --- | ---: | ---: |\n");
        for (split, metrics) in &evaluation.splits {
            text.push_str(&split_row(split, metrics));
        }
        let test = evaluation.splits.get_key_value("test");
        if let Some((split, metrics)) = test.or_else(|| evaluation.splits.first_key_value()) {
            text.push_str(&class_table(split, metrics));
        }
        if evaluation.splits.contains_key("validation") {
            text.push_str(
                "\nThe validation split selected the epoch: its metrics are optimistic.\n",
            );
        }
    }
    text
}

fn split_row(split: &str, metrics: &SplitMetrics) -> String {
    let [low, high] = metrics.accuracy_interval.map(percent);
    format!(
        "| {split} | {} | {} | {low} to {high} | {} | {} |\n",
        thousands(metrics.count),
        percent(metrics.accuracy),
        percent(metrics.macro_average.f1),
        measured(metrics.loss)
    )
}

fn class_table(split: &str, metrics: &SplitMetrics) -> String {
    let mut text = format!(
        "\n| class ({split}) | precision | recall | F1 | images |\n| --- | ---: | ---: | ---: | ---: |\n"
    );
    for class in metrics.per_class.iter().take(SHOWN) {
        // Without images of the class nothing is known of it.
        let share = |value: f64| match class.support {
            0 => "-".to_owned(),
            _ => percent(value),
        };
        let shares = [class.precision, class.recall, class.f1].map(share).join(" | ");
        text.push_str(&format!(
            "| {} | {shares} | {} |\n",
            plain(&class.class),
            thousands(class.support)
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_check_says_how_many_images_it_ran() {
        let check = Check {
            file: ONNX.to_owned(),
            run_by: "pipe's reader of ONNX",
            split: "test",
            images: 2000,
            images_in_split: 10_000,
            largest_difference: 2.5e-6,
            largest_logit: 12.5,
            flipped: 1,
            accuracy: Some(0.9345),
            accuracy_of_model: Some(0.935),
        };
        let of_all = Check { images: 10_000, accuracy: None, flipped: 0, ..check.clone() };
        insta::assert_snapshot!(format!("{}\n{}", check.in_words(), of_all.in_words()));
    }
}
