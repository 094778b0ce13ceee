//! A kind without its types, as the engine handles all of them: resolved values are JSON.

use super::{FactChange, Input, Kind, Pin, Resolver};
use crate::config::{Given, KeyDecl, Keys, Location, Origin, Table, Values};
use crate::engine::{Context, Device, Estimate, Known, LockedSource, SourceLock, StageError};
use crate::events::{CancellationToken, FileChanges};
use crate::store::{Digest, Store};
use serde::Serialize;
use serde_json::Value as Json;

/// A kind whose types are erased: resolved values are JSON.
trait ErasedKind: Send + Sync {
    fn name(&self) -> &'static str;
    fn about(&self) -> &'static str;
    fn version(&self) -> u32;
    fn keys(&self) -> &'static [KeyDecl];
    fn dataset(&self) -> &'static [KeyDecl];
    fn inputs(&self) -> &'static [Input];
    fn any_input(&self) -> Option<&'static Input>;
    fn draws(&self) -> bool;
    fn computes(&self) -> bool;
    fn is_result(&self) -> bool;
    fn resolve(&self, stage: Checked, dataset: Checked, resolver: &mut Resolver) -> Option<Values>;
    fn choices(&self, values: &Values, device: Device) -> Vec<String>;
    fn check_device(&self, values: &Values, device: Device) -> Result<(), StageError>;
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
pub(in crate::engine) struct Checked<'a> {
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
pub(super) fn typed<K: Kind>(kind: &K, values: &Values) -> Result<K::Resolved, StageError> {
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

    fn any_input(&self) -> Option<&'static Input> {
        Kind::any_input(self)
    }

    fn draws(&self) -> bool {
        Kind::draws(self)
    }

    fn computes(&self) -> bool {
        Kind::computes(self)
    }

    fn is_result(&self) -> bool {
        Kind::is_result(self)
    }

    fn resolve(&self, stage: Checked, dataset: Checked, resolver: &mut Resolver) -> Option<Values> {
        let resolved =
            Kind::resolve(self, stage.given::<K::Keys>(), dataset.given::<K::Dataset>(), resolver)?;
        Some(values_of(&resolved))
    }

    fn choices(&self, values: &Values, device: Device) -> Vec<String> {
        let choices = |resolved| Kind::choices(self, &resolved, device);
        typed(self, values).map_or_else(|_| Vec::new(), choices)
    }

    fn check_device(&self, values: &Values, device: Device) -> Result<(), StageError> {
        Kind::check_device(self, &typed(self, values)?, device)
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

    /// See [`Kind::any_input`].
    pub fn any_input(self) -> Option<&'static Input> {
        self.0.any_input()
    }

    /// The input of this role, if it takes one.
    pub fn input(self, role: &str) -> Option<&'static Input> {
        self.inputs().iter().find(|input| input.role == role).or_else(|| self.any_input())
    }

    /// Whether it draws random numbers.
    pub fn draws(self) -> bool {
        self.0.draws()
    }

    /// Whether the device changes its numbers.
    pub fn computes(self) -> bool {
        self.0.computes()
    }

    /// See [`Kind::is_result`].
    pub fn is_result(self) -> bool {
        self.0.is_result()
    }

    pub(in crate::engine) fn resolve(
        self,
        stage: Checked,
        dataset: Checked,
        resolver: &mut Resolver,
    ) -> Option<Values> {
        self.0.resolve(stage, dataset, resolver)
    }

    /// See [`Kind::choices`].
    pub fn choices(self, values: &Values, device: Device) -> Vec<String> {
        self.0.choices(values, device)
    }

    /// See [`Kind::check_device`].
    pub fn check_device(self, values: &Values, device: Device) -> Result<(), StageError> {
        self.0.check_device(values, device)
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
    pub(in crate::engine) fn disk(self, values: &Values, known: &Known) -> Estimate {
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
