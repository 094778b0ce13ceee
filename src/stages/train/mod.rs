//! The kind `train`: trains a network on the train split. The keys are declared with [`Options`]
//! and the work is in `training`; this module connects them to data, weights, device and files.

mod disk;
mod resolve;
mod start;

use crate::common::number::counted;
use crate::config::{NoKeys, WordOr};
use crate::data::TensorCache;
use crate::data::tensor_cache::{INPUT, RECORDS, SAMPLES};
use crate::engine::{
    Context, Device, Estimate, Input, Kind, Known, OrFail, Parts, Resolver, StageError,
};
use crate::metrics::write_history;
use crate::model::{self, Classifier, Dense, ModelInfo, imagenet_classes};
use crate::nn::{self, Network, cuda};
use crate::stages::device::gpu_of;
use crate::stages::fetch::{CONFIGURATION, MODEL};
use crate::stages::memos::memo_of;
use crate::stages::pretrained::PREPROCESSING;
use crate::store::{Digest, Store};
use crate::training::{
    self, Checkpoints, DenseHead, Fitted, Options, OriginalHead, Precision, Session, TrainKeys,
    TrainingError, fit,
};
use serde_json::json;
use start::start_from;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// Message for a training without trainable parameters.
pub(super) const ORIGINAL: &str =
    "nothing is trained: the network keeps its published classifier of ImageNet's 1,000 classes";

/// The kind `train`.
pub(super) struct Train;

/// Version of the code: raised whenever the same inputs give other bytes or other keys.
///
/// - 5: `precision` is `f32` or `f64`; keys have torchvision's names.
/// - 6: augmentation with torchvision's parameters, defaults and distributions.
/// - 7: the learning rate in `history.csv` is the mean over the epoch, not that of its last step.
/// - 8: inference (validation, features of a frozen backbone) sums in another order.
/// - 9: convolutions of 3 x 3 taps by F(2 x 2, 3 x 3); other gradients sum in another order.
/// - 10: processors with AVX-512 sum as those with AVX2; linear layers sum in another order.
/// - 11: dropout draws other masks, the same on the processor and on a GPU; `precision` is `auto` by
///   default.
const VERSION: u32 = 11;

static INPUTS: [Input; 2] = [
    Input {
        role: "data",
        kinds: &["preprocess"],
        required: true,
        parts: Parts::None,
        reads: &[RECORDS, SAMPLES, INPUT],
        self_checked: &[RECORDS],
        doc: "The training and validation images.",
    },
    Input {
        role: "weights",
        kinds: &["fetch", "train", "command"],
        required: false,
        parts: Parts::Of("command"),
        reads: &[MODEL, PREPROCESSING, CONFIGURATION],
        self_checked: &[],
        doc: "Weights to start from: fetched ones, another train stage's model, or what a program wrote: a file (`\"stage/path\"`), or \
              a folder with `model.safetensors`, which timm's `config.json` may describe. Random weights without it.",
    },
];

impl Kind for Train {
    type Keys = Options;
    type Dataset = NoKeys;
    type Resolved = Options;

    fn name(&self) -> &'static str {
        "train"
    }

    fn about(&self) -> &'static str {
        "Trains a network on the training images and keeps the epoch that is best on the validation images."
    }

    fn version(&self) -> u32 {
        VERSION
    }

    fn inputs(&self) -> &'static [Input] {
        &INPUTS
    }

    fn draws(&self) -> bool {
        true
    }

    fn computes(&self) -> bool {
        true
    }

    fn is_result(&self) -> bool {
        true
    }

    fn resolve(
        &self,
        keys: TrainKeys,
        _dataset: NoKeys,
        resolver: &mut Resolver,
    ) -> Option<Options> {
        resolve::resolve(keys, resolver)
    }

    fn choices(&self, options: &Options, device: Device) -> Vec<String> {
        match &options.head {
            WordOr::Word(OriginalHead::Original) => vec![ORIGINAL.to_owned()],
            WordOr::Table(_) => {
                let precision = precision(options.precision, device).map(str::to_owned);
                training::decisions_from_options(options).into_iter().chain(precision).collect()
            }
        }
    }

    fn check_device(&self, options: &Options, device: Device) -> Result<(), StageError> {
        let Device::Cuda(index) = device else { return Ok(options.precision.check(false)?) };
        options.precision.check(true)?;
        if options.precision == Precision::Bf16 {
            cuda::check_precision(index, cuda::Precision::Bf16)?;
        }
        Ok(())
    }

    fn disk(&self, options: &Options, known: &Known) -> Estimate {
        disk::estimate(options, known)
    }

    fn kept(&self, options: &Options, key: &Digest, store: &Store) -> Option<String> {
        training::resumes_at(store.memo(), *key, options.epochs)
    }

    fn run(&self, options: &Options, context: &Context) -> Result<(), StageError> {
        nn::keep_freed_memory();
        train(options, context)
    }
}

fn train(options: &Options, context: &Context) -> Result<(), StageError> {
    let cache = Arc::new(TensorCache::open(&context.input("data")?.path)?);
    let info = cache.info();
    let description = ModelInfo {
        backbone: options.backbone.clone(),
        head: classifier(&options.head),
        classes: match options.head {
            WordOr::Word(OriginalHead::Original) => imagenet_classes(),
            WordOr::Table(_) => info.classes.clone(),
        },
        preprocessing: info.preprocessing.clone(),
        bf16: options.precision == Precision::Bf16,
    };
    let mut network = network(&description, options.aux_logits, context.seed)?;
    if let Some(weights) = context.optional_input("weights") {
        start_from(&mut network, &description, weights, &context.events)?;
    }
    if matches!(description.head, Classifier::Original(_)) {
        model::save(&context.slot.join(MODEL), &description, network.save())?;
        let fitted = Fitted {
            history: Vec::new(),
            epoch: 0,
            stopped_early: false,
            decisions: vec![ORIGINAL.to_owned()],
        };
        context.events.info(ORIGINAL);
        return write_records(&context.slot, &fitted);
    }
    let checkpoints = Checkpoints {
        memo: context.memo.clone(),
        key: context.key,
        every: Duration::try_from_secs_f64(options.checkpoint.every).unwrap_or(Duration::MAX),
        scratch: context.slot.clone(),
    };
    let session = Session {
        seed: context.seed,
        events: &context.events,
        cancel: &context.cancel,
        memo: &memo_of(context),
        scratch: &context.slot,
        key: context.key,
        checkpoints: Some(&checkpoints),
    };
    let gpu = gpu_of(context)?;
    let fitted =
        fit(&mut network, &cache, options, &session, gpu.as_ref()).inspect_err(|error| {
            if matches!(error, TrainingError::Diverged { .. }) {
                // It would lead to the same end again.
                let _ = checkpoints.clear();
            }
        })?;
    let write = || {
        model::save(&context.slot.join(MODEL), &description, network.save_without_auxiliary())?;
        write_records(&context.slot, &fitted)
    };
    match write() {
        // The checkpoint may be what fills it, and the training is done.
        Err(error) if error.is_disk_full() && checkpoints.clear().is_ok() => {
            context
                .events
                .warn("the disk is full: the checkpoint was removed to make room for the model");
            write()?;
        }
        written => written?,
    }
    // A checkpoint that can't be removed only takes space until the next garbage collection.
    let _ = checkpoints.clear();
    context.events.info(summary(&fitted));
    Ok(())
}

/// The precision on a GPU where it is chosen by default; what one costs on this processor, where
/// another would be much faster.
fn precision(precision: Precision, device: Device) -> Option<&'static str> {
    if let Device::Cuda(_) = device {
        return (precision == Precision::Auto).then_some(
            "in tf32 on the GPU, as PyTorch's convolutions; `precision = \"bf16\"` is faster, `\"f32\"` more exact",
        );
    }
    match (precision, nn::has_bf16()) {
        (Precision::Auto | Precision::F32, true) => {
            Some("`precision = \"bf16\"` would be faster: this processor has instructions for it")
        }
        (Precision::Bf16, false) => Some(
            "`precision = \"f32\"` would be faster: this processor has no instructions for bf16, which is computed to the same numbers by others",
        ),
        _ => None,
    }
}

/// The head as a model file records it.
fn classifier(head: &WordOr<OriginalHead, DenseHead>) -> Classifier {
    match head {
        WordOr::Word(OriginalHead::Original) => Classifier::Original(model::Original::Original),
        WordOr::Table(DenseHead { hidden, dropout }) => {
            Classifier::Dense(Dense { hidden: hidden.clone(), dropout: *dropout as f32 })
        }
    }
}

/// The network of a model, with random weights.
fn network(description: &ModelInfo, auxiliary: bool, seed: u64) -> Result<Network, StageError> {
    let (head, input) = (description.head(), description.input());
    if !auxiliary {
        return Ok(Network::new(&description.backbone, &head, input, seed)?);
    }
    let Some(info) = nn::backbone(&description.backbone) else {
        return Err(StageError::failed(format!(
            "no backbone has the name `{}`",
            description.backbone
        )));
    };
    Ok(Network::from_graph(info.graph_with_auxiliary(&head, input)?, &head, seed)?)
}

/// Writes `history.csv` and `training.json`.
fn write_records(slot: &Path, fitted: &Fitted) -> Result<(), StageError> {
    let history = write_history(&fitted.history).or_fail("writing history.csv")?;
    std::fs::write(slot.join("history.csv"), history).or_fail("writing history.csv")?;
    let training = json!({
        "epoch": fitted.epoch,
        "epochs_run": fitted.history.len(),
        "stopped_early": fitted.stopped_early,
        "decisions": fitted.decisions,
    });
    std::fs::write(slot.join("training.json"), format!("{training:#}\n"))
        .or_fail("writing training.json")
}

/// The result in one sentence.
fn summary(fitted: &Fitted) -> String {
    let ran = fitted.history.len();
    let epochs = match (ran, fitted.stopped_early) {
        (1, false) => "1 epoch".to_owned(),
        (_, false) => format!("{ran} epochs"),
        (_, true) => format!("stopped early after {}", counted(ran as u64, "epoch")),
    };
    let kept = fitted.history.iter().find(|row| row.epoch == fitted.epoch);
    match kept.and_then(|row| row.validation_accuracy) {
        Some(accuracy) => {
            format!(
                "{epochs}, kept epoch {}: validation accuracy {:.1} %",
                fitted.epoch,
                accuracy * 100.0
            )
        }
        None => format!("{epochs}, kept epoch {}", fitted.epoch),
    }
}
