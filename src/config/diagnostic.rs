//! What is wrong with a pipeline, said where the facts are known. How it looks is `render`'s.

use std::collections::HashSet;

use super::{Origin, Sources};

/// One mistake.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Diagnostic {
    /// What is wrong, in a sentence without a full stop.
    pub message: String,
    /// Where, if it is in a text.
    pub origin: Option<Origin>,
    /// What stands beside the caret, usually what was expected. May be empty.
    pub label: String,
    /// What to do: "did you mean `epochs`?".
    pub help: Option<String>,
}

impl Diagnostic {
    /// A mistake without a place.
    pub fn new(message: impl Into<String>) -> Diagnostic {
        Diagnostic { message: message.into(), origin: None, label: String::new(), help: None }
    }

    /// The same, at a place.
    pub fn at(mut self, origin: impl Into<Option<Origin>>) -> Diagnostic {
        self.origin = origin.into();
        self
    }

    /// The same, with words beside the caret.
    pub fn label(mut self, label: impl Into<String>) -> Diagnostic {
        self.label = label.into();
        self
    }

    /// The same, with something to do about it.
    pub fn help(mut self, help: impl Into<Option<String>>) -> Diagnostic {
        self.help = help.into();
        self
    }
}

/// Every mistake that was found, with the texts they are in. `Display` is [`Diagnostics::render`] without color.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostics {
    /// The texts.
    pub sources: Sources,
    /// The mistakes.
    pub list: Vec<Diagnostic>,
}

impl Diagnostics {
    /// The mistakes in the order of the texts, those without a place first, each once: a table that two stages read is
    /// checked twice.
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
