//! The contents of inputs: which stages can feed images, weights or a model, as far as that shows
//! before anything runs, and the file or folder of an input that a stage reads.

use super::command::{self, outputs};
use super::fetch::{self, CONFIGURATION, MODEL};
use super::pretrained::Pretrained;
use crate::common::words::{and_list, shortened_list};
use crate::engine::{Feed, InputArtifact, OrFail, Resolver, StageError};
use crate::events::EventSink;
use crate::model::{self, ModelError, ModelInfo};
use crate::nn::NnError;
use crate::nn::weights::{self, Weights};
use std::io;
use std::path::{Path, PathBuf};

/// Maximum number of names in a message.
const SHOWN: usize = 5;

/// The remedy for a file that is no model.
const MODELS: &str = "a model is a file that `train` or `pipe export` writes (`model.safetensors`), or a folder with one";

/// The contents of a stage's output.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Contents {
    /// A set of images.
    Images,
    /// A network's weights.
    Weights,
    /// A trained model: weights, and what classifying images requires beside them.
    Model,
}

impl Contents {
    fn name(self) -> &'static str {
        match self {
            Contents::Images => "images",
            Contents::Weights => "weights",
            Contents::Model => "a model",
        }
    }
}

/// Reports a stage that feeds `role` and delivers something else, as far as its source or its
/// outputs show.
pub(super) fn check(wanted: Contents, role: &str, resolver: &mut Resolver) {
    let Some(feed) = resolver.input(role) else { return };
    match command::outputs_of(feed) {
        Some(outputs) => check_outputs(wanted, role, feed, &outputs, resolver),
        None => check_fetched(wanted, role, feed, resolver),
    }
}

fn check_fetched(wanted: Contents, role: &str, feed: Feed, resolver: &mut Resolver) {
    let Some(found) = fetch::contents_of(feed).filter(|found| *found != wanted) else { return };
    let sources = match wanted {
        Contents::Images => {
            "images are `path:FOLDER`, archives (`path:FILE` and `https://…`: .zip, .tar, .tar.gz, .tar.zst), `kaggle:OWNER/NAME`, \
             `hf:OWNER/NAME` and `synthetic:garments`"
        }
        Contents::Weights | Contents::Model => {
            "weights are `torchvision:NAME`, `path:FILE` (.pth or .safetensors), `path:FOLDER` with timm's \
             `model.safetensors` and `config.json`, `hf:OWNER/NAME`, `https://…` and `run:ID/train`"
        }
    };
    let (found, wanted) = (found.name(), wanted.name());
    let message = format!(
        "`{}` can't feed `{role}` of `{}`: it fetches {found}, not {wanted}",
        feed.stage,
        resolver.stage()
    );
    let label = format!("expected a stage that fetches {wanted}");
    resolver.report(resolver.role_error(role, message).label(label).help(sources.to_owned()));
}

/// Reports a `command` stage that doesn't declare what `role` needs.
fn check_outputs(
    wanted: Contents,
    role: &str,
    feed: Feed,
    outputs: &[String],
    resolver: &mut Resolver,
) {
    if resolver.inside().contains_key(role) {
        return check_part(role, resolver);
    }
    let (is_declared, missing) = match wanted {
        Contents::Images => (outputs::has_images(outputs), "images"),
        Contents::Weights | Contents::Model => {
            (outputs.iter().any(|output| output == MODEL), "`model.safetensors`")
        }
    };
    if is_declared {
        return;
    }
    let stage = feed.stage;
    let message = format!(
        "`{stage}` can't feed `{role}` of `{}`: it declares no {missing}",
        resolver.stage()
    );
    let help = match (wanted, outputs) {
        (Contents::Images, _) => {
            "let the program write them to `{output}/images`, and add \"images\" to its `outputs`"
                .to_owned()
        }
        (_, [output, ..]) => format!("name the file or folder: `{role} = \"{stage}/{output}\"`"),
        (_, []) => "declare it in `outputs`".to_owned(),
    };
    let label = format!("expected a stage with {}", wanted.name());
    resolver.report(resolver.role_error(role, message).label(label).help(help));
}

/// Reports a path in the output of a `command` stage that it doesn't declare.
pub(super) fn check_part(role: &str, resolver: &mut Resolver) {
    let Some((feed, path)) = resolver.input(role).zip(resolver.inside().get(role)) else { return };
    let Some(outputs) = command::outputs_of(feed) else { return };
    if !outputs::may_have(&outputs, path) {
        let message = format!("`{}` has no output `{path}`", feed.stage);
        let help = format!("its outputs are {}", and_list(outputs.iter().map(String::as_str)));
        let diagnostic = resolver.role_error(role, message).label("unknown output");
        resolver.report(diagnostic.help(help));
    }
}

/// The file or folder of the input `role` that is needed.
///
/// # Errors
/// If it isn't there.
pub(super) fn part(role: &str, input: &InputArtifact) -> Result<PathBuf, StageError> {
    let Some(inside) = &input.inside else { return Ok(input.path.clone()) };
    let path = input.path.join(inside);
    if path.exists() {
        return Ok(path);
    }
    let is_there = |place: &&Path| place.is_dir() && place.starts_with(&input.path);
    let above = path.ancestors().skip(1).find(is_there).unwrap_or(&input.path);
    let owner = match above.strip_prefix(&input.path) {
        Ok(folder) if folder != Path::new("") => format!("`{}`", folder.display()),
        _ => "its stage's output".to_owned(),
    };
    Err(StageError::failed(format!("the input `{role}` has no `{inside}`"))
        .with_help(format!("{owner} has {}", names_in(above))))
}

/// The names in a folder of an artifact, for a message.
fn names_in(folder: &Path) -> String {
    shortened_list(outputs::names(folder).iter().map(String::as_str), SHOWN)
}

/// A file of weights in an input.
pub(super) struct WeightsFile {
    pub path: PathBuf,
    /// The folder that was given, with what describes the weights; none where the file was.
    pub folder: Option<PathBuf>,
    /// Its name in messages: "`model.safetensors` of the input `weights`".
    pub named: String,
}

impl WeightsFile {
    /// That of the input `role`: the file that `needs` names, or [`MODEL`] in its folder.
    ///
    /// # Errors
    /// If there is none.
    pub(super) fn of(role: &str, input: &InputArtifact) -> Result<WeightsFile, StageError> {
        let part = part(role, input)?;
        let inside = input.inside.as_deref();
        if let Some(inside) = inside.filter(|_| part.is_file()) {
            return Ok(WeightsFile { path: part, folder: None, named: named(role, inside) });
        }
        let path = part.join(MODEL);
        if path.is_file() {
            let name = inside.map_or(MODEL.to_owned(), |inside| format!("{inside}/{MODEL}"));
            return Ok(WeightsFile { path, folder: Some(part), named: named(role, &name) });
        }
        let Some(inside) = inside else {
            let message = format!("the stage that feeds `{role}` holds no weights");
            return Err(StageError::failed(message).with_help(
                "feed it from a fetch stage whose source is weights, such as `torchvision:resnet50`, or from a train stage",
            ));
        };
        let message = format!("{} is a folder without `{MODEL}`", named(role, inside));
        let help = format!("it has {}; name the file (`STAGE/{inside}/NAME`)", names_in(&part));
        Err(StageError::failed(message).with_help(help))
    }

    /// Reads it.
    ///
    /// # Errors
    /// If it is damaged, or no file of weights.
    pub(super) fn read(&self) -> Result<Weights, StageError> {
        weights::read(&self.path).map_err(|error| self.unreadable(error))
    }

    /// Reads it as a model.
    ///
    /// # Errors
    /// If it is damaged, or not a file that describes a model.
    pub(super) fn read_model(&self) -> Result<(ModelInfo, Weights), StageError> {
        let weights = self.read().map_err(|error| error.with_help(MODELS))?;
        let failed = |error: ModelError| StageError::from(error).with_help(MODELS);
        match model::info(&weights).map_err(failed).or_fail(&self.named)? {
            Some(info) => Ok((info, weights)),
            None => {
                let message = format!(
                    "{}: these are weights, not a model: the file describes no classes",
                    self.named
                );
                Err(StageError::failed(message).with_help(MODELS))
            }
        }
    }

    /// What the folder says about the weights in it, if they were given as a folder.
    ///
    /// # Errors
    /// If it can't be read.
    pub(super) fn described(&self, events: &EventSink) -> Result<Option<Pretrained>, StageError> {
        let Some(folder) = &self.folder else { return Ok(None) };
        if let Some(known) = Pretrained::read(folder)? {
            return Ok(Some(known));
        }
        match std::fs::read(folder.join(CONFIGURATION)) {
            Ok(text) => Ok(fetch::described(&text, &self.named, events)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).or_fail(format_args!("reading `{CONFIGURATION}`")),
        }
    }

    fn unreadable(&self, error: NnError) -> StageError {
        match error {
            NnError::File { reason, .. } => StageError::failed(format!("{}: {reason}", self.named)),
            other => other.into(),
        }
    }
}

fn named(role: &str, name: &str) -> String {
    format!("`{name}` of the input `{role}`")
}
