//! The surroundings in which the keys of one stage are resolved: a place for diagnostics, and the
//! stages that feed it.

use super::erased::typed;
use super::{Kind, KindRef};
use crate::config::{Diagnostic, StageTable, Values};
use std::collections::BTreeMap;

/// Collects diagnostics while the keys of one stage are resolved, and knows what feeds the stage.
pub struct Resolver<'a> {
    pub(in crate::engine) stage: &'a StageTable,
    pub(in crate::engine) feeding: BTreeMap<&'a str, Feed<'a>>,
    pub(in crate::engine) diagnostics: Vec<Diagnostic>,
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

    /// Role -> the file or folder of the feeding stage's output, where `needs` names one.
    pub fn inside(&self) -> &'a BTreeMap<String, String> {
        &self.stage.inside
    }

    /// The roles that `needs` gives.
    pub fn roles(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        self.stage.needs.keys().map(String::as_str)
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
