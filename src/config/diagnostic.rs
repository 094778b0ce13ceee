//! Errors in a pipeline file, with their location.

use std::collections::HashSet;

use super::{Origin, Sources};

/// One error.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Diagnostic {
    /// The error in one sentence, without a full stop.
    pub message: String,
    /// The location, if there is one.
    pub origin: Option<Origin>,
    /// The text at the caret, usually what was expected. May be empty.
    pub label: String,
    /// The remedy: "did you mean `epochs`?".
    pub help: Option<String>,
}

impl Diagnostic {
    /// An error without a location.
    pub fn new(message: impl Into<String>) -> Diagnostic {
        Diagnostic { message: message.into(), origin: None, label: String::new(), help: None }
    }

    /// Sets the location.
    pub fn at(mut self, origin: impl Into<Option<Origin>>) -> Diagnostic {
        self.origin = origin.into();
        self
    }

    /// Sets the text at the caret.
    pub fn label(mut self, label: impl Into<String>) -> Diagnostic {
        self.label = label.into();
        self
    }

    /// Sets the help.
    pub fn help(mut self, help: impl Into<Option<String>>) -> Diagnostic {
        self.help = help.into();
        self
    }
}

/// All errors of a pipeline with their source texts. `Display` is [`Diagnostics::render`] without
/// color.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostics {
    pub sources: Sources,
    pub list: Vec<Diagnostic>,
}

impl Diagnostics {
    /// Sorts errors by location, those without one first, and removes duplicates: a table that two
    /// stages read is checked twice.
    pub fn new(sources: Sources, mut list: Vec<Diagnostic>) -> Diagnostics {
        let mut seen = HashSet::new();
        list.retain(|diagnostic| seen.insert(diagnostic.clone()));
        list.sort_by_key(|diagnostic| {
            diagnostic.origin.as_ref().map(|origin| (origin.file, origin.span.start))
        });
        Diagnostics { sources, list }
    }
}

impl std::fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.render(false))
    }
}

impl std::error::Error for Diagnostics {}
