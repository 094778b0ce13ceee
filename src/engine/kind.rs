//! What the implementation of a stage has to say about itself. The engine knows kinds by this trait alone, none by name.

use super::{Context, StageError};
use crate::config::{Diagnostic, KeyDecl, Origin, Pipeline, StageSpec, Values};
use crate::events::CancellationToken;
use crate::store::Store;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// The kinds that there are.
pub type Kinds = [&'static dyn Kind];

/// An input that a kind takes.
#[derive(Clone, Copy, Debug)]
pub struct Input {
    /// The name by which `needs` gives it.
    pub role: &'static str,
    /// The kinds of stage that can feed it.
    pub kinds: &'static [&'static str],
    /// Whether it has to be given.
    pub required: bool,
    /// The files of it that are read, folders with a `/` at their end; none means all of them. Others may change without a rerun.
    pub reads: &'static [&'static str],
    /// What it is for, in a sentence.
    pub doc: &'static str,
}

/// What a kind knows from outside at the time of planning.
#[derive(Clone, Debug, Default)]
pub struct Pin {
    /// Facts that are part of the fingerprint, such as the digest of a folder's listing.
    pub facts: BTreeMap<String, serde_json::Value>,
    /// Parameters that these facts stand for, left out of the fingerprint: where a folder lies doesn't matter.
    pub replaces: Vec<&'static str>,
    /// A folder outside the store that the artifact lists and that is read in place.
    pub folder: Option<PathBuf>,
}

/// An implementation of stages.
pub trait Kind: Send + Sync {
    /// Its name, by which stages ask for it.
    fn name(&self) -> &'static str;

    /// What it does, in a sentence.
    fn about(&self) -> &'static str;

    /// The version of its code: to be raised whenever it makes other bytes than before.
    fn version(&self) -> u32;

    /// Its parameters. Not `kind`, `needs` and [`COMMON`](super::COMMON).
    fn parameters(&self) -> &'static [KeyDecl];

    /// The keys of `[dataset]` that it reads. It finds them in its values under "dataset".
    fn dataset(&self) -> &'static [KeyDecl] {
        &[]
    }

    /// Its inputs.
    fn inputs(&self) -> &'static [Input] {
        &[]
    }

    /// Whether it draws random numbers: only then is the seed part of its key, and given to it.
    fn draws(&self) -> bool {
        false
    }

    /// Whether what computes changes its numbers: only then is the class of the device part of its key.
    fn computes(&self) -> bool {
        false
    }

    /// Turns presets into values and checks rules across parameters. Called where each parameter by itself is right.
    fn resolve(&self, _values: &mut Values, _diagnostics: &mut Complaints) {}

    /// What was chosen for a stage with these values, where the user may want to know it before it runs: sentences that a
    /// plan shows.
    fn choices(&self, _values: &Values) -> Vec<String> {
        Vec::new()
    }

    /// Looks at the world outside, at the time of planning and once more when the stage has run: if the facts are others
    /// by then, the result isn't stored.
    fn pin(
        &self,
        _values: &Values,
        _store: &Store,
        _cancel: &CancellationToken,
    ) -> Result<Pin, StageError> {
        Ok(Pin::default())
    }

    /// Looks anew at what it remembers of the world outside, such as the version of a file on the web, so that the next
    /// [`pin`](Self::pin) tells what is there now. Where that can't be had, what it remembered stays.
    fn refresh(
        &self,
        _values: &Values,
        _store: &Store,
        _cancel: &CancellationToken,
    ) -> Result<(), StageError> {
        Ok(())
    }

    /// Makes the artifact in the context's slot.
    fn run(&self, context: &Context) -> Result<(), StageError>;
}

/// Takes the mistakes that a kind finds in one stage, and finds the places to show for them.
pub struct Complaints<'a> {
    pub(super) pipeline: &'a Pipeline,
    pub(super) stage: &'a StageSpec,
    pub(super) feeding: BTreeMap<&'a str, Feed<'a>>,
    pub(super) list: Vec<Diagnostic>,
}

/// The stage that feeds a role.
#[derive(Clone, Copy)]
pub struct Feed<'a> {
    /// Its name.
    pub stage: &'a str,
    /// Its kind.
    pub kind: &'static str,
    /// Its values, resolved.
    pub values: &'a Values,
}

impl<'a> Complaints<'a> {
    /// Takes a mistake. `key` is the parameter's, relative to the stage's table ("head.dropout"), "" for the stage
    /// itself, "needs.ROLE" for what feeds a role, "dataset.…" for a key of `[dataset]`. `message` says what is wrong,
    /// `label` what was expected there.
    pub fn complain(
        &mut self,
        key: &str,
        message: impl Into<String>,
        label: impl Into<String>,
        help: Option<String>,
    ) {
        self.list.push(Diagnostic::new(message).at(self.origin(key)).label(label).help(help));
    }

    /// What feeds `role`. None where nothing does, and where what does has mistakes of its own, which are told already:
    /// a rule that needs it is then to be passed over.
    pub fn input(&self, role: &str) -> Option<Feed<'a>> {
        self.feeding.get(role).copied()
    }

    /// Whether a stage feeds `role`, with or without mistakes of its own.
    pub fn is_fed(&self, role: &str) -> bool {
        self.stage.needs.contains_key(role)
    }

    /// The stage's name.
    pub fn stage(&self) -> &'a str {
        &self.stage.name
    }

    fn origin(&self, key: &str) -> Option<Origin> {
        if let Some(role) = key.strip_prefix("needs.") {
            return self.stage.needs.get(role).map(|(_, origin)| origin.clone());
        }
        match key.strip_prefix("dataset") {
            Some("") => self.pipeline.dataset.origin().cloned(),
            Some(rest) if rest.starts_with('.') => {
                self.pipeline.dataset.place(rest.trim_start_matches('.'))
            }
            _ if key.is_empty() => Some(self.stage.name_origin.clone()),
            _ => self.stage.parameters.place(key),
        }
        .or_else(|| Some(self.stage.name_origin.clone()))
    }
}
