//! The trait that a stage kind implements, and the form in which the engine handles all of them.
//!
//! A kind has three types: the keys that a stage's table may hold, the keys of `[dataset]` that it
//! reads, and what both resolve to. The engine sees resolved values only as JSON: in job files,
//! records and fingerprints.

use super::{Context, Estimate, Known, LockedSource, SourceLock, StageError};
use crate::config::{
    Diagnostic, Given, KeyDecl, Keys, Location, Origin, StageTable, Table, Values,
};
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
    /// The kinds of stage that can feed it.
    pub kinds: &'static [&'static str],
    /// Whether it has to be given.
    pub required: bool,
    /// The files of it that are read, folders with a `/` at their end; none means all of them.
    /// Others may change without a rerun.
    pub reads: &'static [&'static str],
    /// Those of `reads` of which the stage checks every part as it reads it. All others are
    /// digested before the stage starts.
    pub self_checked: &'static [&'static str],
    /// Its purpose, in a sentence.
    pub doc: &'static str,
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

    /// Whether it draws random numbers: only then is the seed part of its key, and given to it.
    fn draws(&self) -> bool {
        false
    }

    /// Whether the device changes its numbers: only then is the device's class part of its key.
    fn computes(&self) -> bool {
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
    fn choices(&self, _resolved: &Self::Resolved) -> Vec<String> {
        Vec::new()
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

/// A kind whose types are erased: resolved values are JSON.
trait ErasedKind: Send + Sync {
    fn name(&self) -> &'static str;
    fn about(&self) -> &'static str;
    fn version(&self) -> u32;
    fn keys(&self) -> &'static [KeyDecl];
    fn dataset(&self) -> &'static [KeyDecl];
    fn inputs(&self) -> &'static [Input];
    fn draws(&self) -> bool;
    fn computes(&self) -> bool;
    fn resolve(&self, stage: Checked, dataset: Checked, resolver: &mut Resolver) -> Option<Values>;
    fn choices(&self, values: &Values) -> Vec<String>;
    fn pin(
        &self,
        values: &Values,
        store: &Store,
        cancel: &CancellationToken,
    ) -> Result<Pin, StageError>;
    fn changes(&self, values: &Values, change: &FactChange) -> Option<FileChanges>;
    fn refresh(
        &self,
        values: &Values,
        store: &Store,
        cancel: &CancellationToken,
    ) -> Result<(), StageError>;
    fn remote_sources(&self, values: &Values) -> Vec<String>;
    fn locked(&self, values: &Values, store: &Store) -> Vec<LockedSource>;
    fn adopt(&self, values: &Values, lock: &SourceLock, store: &Store) -> Result<(), StageError>;
    fn disk(&self, values: &Values, known: &Known) -> Estimate;
    fn kept(&self, values: &Values, key: &Digest, store: &Store) -> Option<String>;
    fn run(&self, context: &Context) -> Result<(), StageError>;
}

/// A table whose keys were checked one by one.
pub(super) struct Checked<'a> {
    pub values: Values,
    pub table: &'a Table,
    /// Where diagnostics about keys that nobody wrote point to.
    pub fallback: Option<Origin>,
}

impl Checked<'_> {
    fn given<K: Keys>(self) -> Given<K> {
        K::given(Some(Json::Object(self.values)), &Location::table(self.table, self.fallback))
    }
}

/// Resolved values as the kind's own type.
///
/// # Errors
/// Where they aren't: a job file was written by another `pipe`.
fn typed<K: Kind>(kind: &K, values: &Values) -> Result<K::Resolved, StageError> {
    serde_json::from_value(Json::Object(values.clone())).map_err(|error| {
        StageError::failed(format!("the values don't fit a `{}` stage: {error}", kind.name()))
    })
}

impl<K: Kind> ErasedKind for K {
    fn name(&self) -> &'static str {
        Kind::name(self)
    }

    fn about(&self) -> &'static str {
        Kind::about(self)
    }

    fn version(&self) -> u32 {
        Kind::version(self)
    }

    fn keys(&self) -> &'static [KeyDecl] {
        K::Keys::KEYS
    }

    fn dataset(&self) -> &'static [KeyDecl] {
        K::Dataset::KEYS
    }

    fn inputs(&self) -> &'static [Input] {
        Kind::inputs(self)
    }

    fn draws(&self) -> bool {
        Kind::draws(self)
    }

    fn computes(&self) -> bool {
        Kind::computes(self)
    }

    fn resolve(&self, stage: Checked, dataset: Checked, resolver: &mut Resolver) -> Option<Values> {
        let resolved =
            Kind::resolve(self, stage.given::<K::Keys>(), dataset.given::<K::Dataset>(), resolver)?;
        Some(values_of(&resolved))
    }

    fn choices(&self, values: &Values) -> Vec<String> {
        typed(self, values).map_or_else(|_| Vec::new(), |resolved| Kind::choices(self, &resolved))
    }

    fn pin(
        &self,
        values: &Values,
        store: &Store,
        cancel: &CancellationToken,
    ) -> Result<Pin, StageError> {
        Kind::pin(self, &typed(self, values)?, store, cancel)
    }

    fn changes(&self, values: &Values, change: &FactChange) -> Option<FileChanges> {
        Kind::changes(self, &typed(self, values).ok()?, change)
    }

    fn refresh(
        &self,
        values: &Values,
        store: &Store,
        cancel: &CancellationToken,
    ) -> Result<(), StageError> {
        Kind::refresh(self, &typed(self, values)?, store, cancel)
    }

    fn remote_sources(&self, values: &Values) -> Vec<String> {
        typed(self, values)
            .map_or_else(|_| Vec::new(), |resolved| Kind::remote_sources(self, &resolved))
    }

    fn locked(&self, values: &Values, store: &Store) -> Vec<LockedSource> {
        typed(self, values)
            .map_or_else(|_| Vec::new(), |resolved| Kind::locked(self, &resolved, store))
    }

    fn adopt(&self, values: &Values, lock: &SourceLock, store: &Store) -> Result<(), StageError> {
        Kind::adopt(self, &typed(self, values)?, lock, store)
    }

    fn disk(&self, values: &Values, known: &Known) -> Estimate {
        typed(self, values)
            .map_or_else(|_| Estimate::default(), |resolved| Kind::disk(self, &resolved, known))
    }

    fn kept(&self, values: &Values, key: &Digest, store: &Store) -> Option<String> {
        Kind::kept(self, &typed(self, values).ok()?, key, store)
    }

    fn run(&self, context: &Context) -> Result<(), StageError> {
        Kind::run(self, &typed(self, &context.values)?, context)
    }
}

/// Resolved values as JSON.
///
/// # Panics
/// Where the type doesn't serialize to an object: a bug in the kind.
pub fn values_of<T: Serialize>(resolved: &T) -> Values {
    match serde_json::to_value(resolved) {
        Ok(Json::Object(values)) => values,
        other => panic!("a kind's resolved type must serialize to an object, not {other:?}"),
    }
}

/// A kind as the engine handles it.
#[derive(Clone, Copy)]
pub struct KindRef(&'static dyn ErasedKind);

impl KindRef {
    /// The kind without its types.
    pub const fn new<K: Kind>(kind: &'static K) -> KindRef {
        KindRef(kind)
    }

    /// The name by which a stage asks for it.
    pub fn name(self) -> &'static str {
        self.0.name()
    }

    /// Its effect, in a sentence.
    pub fn about(self) -> &'static str {
        self.0.about()
    }

    /// The version of its code.
    pub fn version(self) -> u32 {
        self.0.version()
    }

    /// The keys of its stages.
    pub fn keys(self) -> &'static [KeyDecl] {
        self.0.keys()
    }

    /// The keys of `[dataset]` that it reads.
    pub fn dataset(self) -> &'static [KeyDecl] {
        self.0.dataset()
    }

    /// Its inputs.
    pub fn inputs(self) -> &'static [Input] {
        self.0.inputs()
    }

    /// Whether it draws random numbers.
    pub fn draws(self) -> bool {
        self.0.draws()
    }

    /// Whether the device changes its numbers.
    pub fn computes(self) -> bool {
        self.0.computes()
    }

    pub(super) fn resolve(
        self,
        stage: Checked,
        dataset: Checked,
        resolver: &mut Resolver,
    ) -> Option<Values> {
        self.0.resolve(stage, dataset, resolver)
    }

    /// See [`Kind::choices`].
    pub fn choices(self, values: &Values) -> Vec<String> {
        self.0.choices(values)
    }

    /// See [`Kind::pin`].
    pub fn pin(
        self,
        values: &Values,
        store: &Store,
        cancel: &CancellationToken,
    ) -> Result<Pin, StageError> {
        self.0.pin(values, store, cancel)
    }

    /// See [`Kind::changes`].
    pub fn changes(self, values: &Values, change: &FactChange) -> Option<FileChanges> {
        self.0.changes(values, change)
    }

    /// See [`Kind::refresh`].
    pub fn refresh(
        self,
        values: &Values,
        store: &Store,
        cancel: &CancellationToken,
    ) -> Result<(), StageError> {
        self.0.refresh(values, store, cancel)
    }

    /// See [`Kind::remote_sources`].
    pub fn remote_sources(self, values: &Values) -> Vec<String> {
        self.0.remote_sources(values)
    }

    /// See [`Kind::locked`].
    pub fn locked(self, values: &Values, store: &Store) -> Vec<LockedSource> {
        self.0.locked(values, store)
    }

    /// See [`Kind::adopt`].
    pub fn adopt(
        self,
        values: &Values,
        lock: &SourceLock,
        store: &Store,
    ) -> Result<(), StageError> {
        self.0.adopt(values, lock, store)
    }

    /// See [`Kind::disk`].
    pub(super) fn disk(self, values: &Values, known: &Known) -> Estimate {
        self.0.disk(values, known)
    }

    /// See [`Kind::kept`].
    pub fn kept(self, values: &Values, key: &Digest, store: &Store) -> Option<String> {
        self.0.kept(values, key, store)
    }

    /// See [`Kind::run`]; the values are the context's.
    pub fn run(self, context: &Context) -> Result<(), StageError> {
        self.0.run(context)
    }
}

/// Collects diagnostics while the keys of one stage are resolved, and knows what feeds the stage.
pub struct Resolver<'a> {
    pub(super) stage: &'a StageTable,
    pub(super) feeding: BTreeMap<&'a str, Feed<'a>>,
    pub(super) diagnostics: Vec<Diagnostic>,
}

/// The stage that feeds a role.
#[derive(Clone, Copy)]
pub struct Feed<'a> {
    /// Its name.
    pub stage: &'a str,
    /// Its kind.
    pub kind: KindRef,
    /// Its resolved values.
    pub values: &'a Values,
}

impl Feed<'_> {
    /// The resolved values, if the stage is of this kind.
    pub fn resolved<K: Kind>(&self, kind: &K) -> Option<K::Resolved> {
        (self.kind.name() == Kind::name(kind)).then(|| {
            typed(kind, self.values).unwrap_or_else(|error| panic!("{}: {error}", self.stage))
        })
    }
}

impl<'a> Resolver<'a> {
    /// Reports a diagnostic. A key's `error` makes one that points to it.
    pub fn report(&mut self, diagnostic: Diagnostic) {
        self.diagnostics.push(diagnostic);
    }

    /// A diagnostic that points to the stage's name.
    pub fn stage_error(&self, message: impl Into<String>) -> Diagnostic {
        Diagnostic::new(message).at(self.stage.name_origin.clone())
    }

    /// A diagnostic that points to the stage that `needs` gives for a role.
    pub fn role_error(&self, role: &str, message: impl Into<String>) -> Diagnostic {
        let origin = self.stage.needs.get(role).map(|(_, origin)| origin);
        Diagnostic::new(message).at(origin.unwrap_or(&self.stage.name_origin).clone())
    }

    /// The stage that feeds `role`. `None` if there is none, or if that stage has diagnostics
    /// of its own: rules that need it are then skipped.
    pub fn input(&self, role: &str) -> Option<Feed<'a>> {
        self.feeding.get(role).copied()
    }

    /// Whether a stage feeds `role`, with or without diagnostics of its own.
    pub fn is_fed(&self, role: &str) -> bool {
        self.stage.needs.contains_key(role)
    }

    /// The stage's name.
    pub fn stage(&self) -> &'a str {
        &self.stage.name
    }

    /// Whether nothing was reported.
    pub fn is_clean(&self) -> bool {
        self.diagnostics.is_empty()
    }
}
