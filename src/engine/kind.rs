//! The trait that a stage kind implements.
//!
//! A kind has three types: the keys that a stage's table may hold, the keys of `[dataset]` that it
//! reads, and what both resolve to. The engine sees resolved values only as JSON: in job files,
//! records and fingerprints.

mod erased;
mod resolver;

pub(super) use erased::Checked;
pub use erased::{KindRef, values_of};
pub use resolver::{Feed, Resolver};

use super::{Context, Device, Estimate, Known, LockedSource, SourceLock, StageError};
use crate::config::{Given, Keys};
use crate::events::{CancellationToken, FileChanges};
use crate::store::{Digest, Store};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value as Json;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// The kinds that there are.
pub type Kinds = [KindRef];

/// An input that a kind takes.
#[derive(Clone, Copy, Debug)]
pub struct Input {
    /// The name by which `needs` gives it.
    pub role: &'static str,
    /// The kinds of stage that can feed it; none means all of them.
    pub kinds: &'static [&'static str],
    /// Whether it has to be given.
    pub required: bool,
    /// Of which stages `needs` may name a part: a file or folder of the output.
    pub parts: Parts,
    /// The files of it that are read, folders with a `/` at their end; none means all of them.
    /// Others may change without a rerun. Of a part that `needs` names, all is read.
    pub reads: &'static [&'static str],
    /// Those of `reads` of which the stage checks every part as it reads it. All others are
    /// digested before the stage starts.
    pub self_checked: &'static [&'static str],
    /// Its purpose, in a sentence.
    pub doc: &'static str,
}

/// The stages of whose output `needs` may name a file or folder (`role = "stage/path"`). The stage
/// then depends on that alone.
#[derive(Clone, Copy, Debug)]
pub enum Parts {
    /// None: the whole output is read.
    None,
    /// Those of this kind.
    Of(&'static str),
    Any,
}

impl Parts {
    /// Whether a part of the output of a stage of this kind can be named.
    pub(super) fn allow(self, kind: &str) -> bool {
        match self {
            Parts::None => false,
            Parts::Of(one) => one == kind,
            Parts::Any => true,
        }
    }
}

/// Facts from outside the pipeline file that a stage depends on, found while planning.
#[derive(Clone, Debug, Default)]
pub struct Pin {
    /// Part of the fingerprint, such as the digest of a folder's listing.
    pub facts: BTreeMap<String, Json>,
    /// Keys that these facts stand for, left out of the fingerprint: where a folder lies doesn't
    /// matter.
    pub replaces: Vec<&'static str>,
    /// A folder outside the store that the artifact lists and that is read in place.
    pub folder: Option<PathBuf>,
}

/// A fact of a pin that differs from that of an earlier build.
pub struct FactChange<'a> {
    pub fact: &'a str,
    pub old: &'a Json,
    pub new: &'a Json,
    pub store: &'a Store,
    pub(super) earlier: Digest,
}

impl FactChange<'_> {
    /// The folder of the artifact that the earlier build made, if it is in the store.
    pub fn earlier_artifact(&self) -> Option<PathBuf> {
        Some(self.store.lookup(&self.earlier).ok()??.path)
    }
}

/// A kind of stage.
pub trait Kind: Send + Sync + 'static {
    /// The keys of a stage's table, apart from `kind`, `needs` and [`Common`](super::Common).
    type Keys: Keys;
    /// The keys of `[dataset]`; [`NoKeys`](crate::config::NoKeys) for a kind that reads none of
    /// them.
    type Dataset: Keys;
    /// The result of resolving both: defaults filled in, presets replaced by values, rules across keys
    /// checked. It is part of the job, and, without what is at its default, of the fingerprint;
    /// what comes from `[dataset]` is in a field `dataset`.
    type Resolved: Serialize + DeserializeOwned;

    /// The name by which a stage asks for it.
    fn name(&self) -> &'static str;

    /// Its effect, in a sentence.
    fn about(&self) -> &'static str;

    /// The version of its code: to be raised whenever it makes other bytes than before.
    fn version(&self) -> u32;

    /// Its inputs.
    fn inputs(&self) -> &'static [Input] {
        &[]
    }

    /// Any other input, for a kind whose roles are the user's choice.
    fn any_input(&self) -> Option<&'static Input> {
        None
    }

    /// Whether it draws random numbers: only then is the seed part of its key, and given to it.
    fn draws(&self) -> bool {
        false
    }

    /// Whether the device changes its numbers: only then is the device's class part of its key.
    fn computes(&self) -> bool {
        false
    }

    /// Whether people use its output, beside the stages that need it: a model. Such an output is
    /// copied from a cache elsewhere even if no stage that runs needs it.
    fn is_result(&self) -> bool {
        false
    }

    /// Resolves keys that are right one by one. `None` where a diagnostic was reported.
    fn resolve(
        &self,
        keys: Given<Self::Keys>,
        dataset: Given<Self::Dataset>,
        resolver: &mut Resolver,
    ) -> Option<Self::Resolved>;

    /// Choices made by default that a user may want to know before the stage runs, as sentences for
    /// the plan.
    fn choices(&self, _resolved: &Self::Resolved, _device: Device) -> Vec<String> {
        Vec::new()
    }

    /// Checks that the stage can be computed on this device, before anything runs.
    fn check_device(&self, _resolved: &Self::Resolved, _device: Device) -> Result<(), StageError> {
        Ok(())
    }

    /// Looks at what the stage depends on outside the pipeline file, while planning and again when
    /// it has run: where the facts differ by then, the result isn't stored.
    fn pin(
        &self,
        _resolved: &Self::Resolved,
        _store: &Store,
        _cancel: &CancellationToken,
    ) -> Result<Pin, StageError> {
        Ok(Pin::default())
    }

    /// The files or rows behind a changed fact, such as the digest of a listing. `None` where the
    /// earlier content isn't known any more, or the fact is no digest of a list.
    fn changes(&self, _resolved: &Self::Resolved, _change: &FactChange) -> Option<FileChanges> {
        None
    }

    /// Updates what is remembered of the world outside, such as the version of a file on the web,
    /// for the next [`pin`](Self::pin). Where it can't be reached, what is remembered stays.
    fn refresh(
        &self,
        _resolved: &Self::Resolved,
        _store: &Store,
        _cancel: &CancellationToken,
    ) -> Result<(), StageError> {
        Ok(())
    }

    /// The names of the remote sources that it pins, as `pipe.lock` has them.
    fn remote_sources(&self, _resolved: &Self::Resolved) -> Vec<String> {
        Vec::new()
    }

    /// The pins of its remote sources that were looked at.
    fn locked(&self, _resolved: &Self::Resolved, _store: &Store) -> Vec<LockedSource> {
        Vec::new()
    }

    /// Takes the pins of its remote sources from `pipe.lock`, for the next [`pin`](Self::pin).
    fn adopt(
        &self,
        _resolved: &Self::Resolved,
        _lock: &SourceLock,
        _store: &Store,
    ) -> Result<(), StageError> {
        Ok(())
    }

    /// The disk space that it needs, and what its output will be, as far as that is known before it
    /// runs. Called with the artifact of a stage that is up to date, too, for those that it feeds.
    fn disk(&self, _resolved: &Self::Resolved, _known: &Known) -> Estimate {
        Estimate { bytes: Some(0), ..Estimate::default() }
    }

    /// Where the next run goes on, if an interrupted one of this key left unfinished work that is
    /// reused, as in "epoch 3 of 20".
    fn kept(&self, _resolved: &Self::Resolved, _key: &Digest, _store: &Store) -> Option<String> {
        None
    }

    /// Makes the artifact in the context's slot.
    fn run(&self, resolved: &Self::Resolved, context: &Context) -> Result<(), StageError>;
}
