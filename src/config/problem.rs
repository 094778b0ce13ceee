//! What is wrong with a pipeline, said where the facts are known. How it looks is `render`'s.

use std::collections::HashSet;

use super::{Origin, Sources};

/// One mistake.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Problem {
    /// What is wrong, in a sentence without a full stop.
    pub message: String,
    /// Where, if it is in a text.
    pub origin: Option<Origin>,
    /// What stands beside the caret, usually what was expected. May be empty.
    pub label: String,
    /// What to do: "did you mean `epochs`?".
    pub help: Option<String>,
}

impl Problem {
    /// A mistake without a place.
    pub fn new(message: impl Into<String>) -> Problem {
        Problem { message: message.into(), origin: None, label: String::new(), help: None }
    }

    /// The same, at a place.
    pub fn at(mut self, origin: impl Into<Option<Origin>>) -> Problem {
        self.origin = origin.into();
        self
    }

    /// The same, with words beside the caret.
    pub fn label(mut self, label: impl Into<String>) -> Problem {
        self.label = label.into();
        self
    }

    /// The same, with something to do about it.
    pub fn help(mut self, help: impl Into<Option<String>>) -> Problem {
        self.help = help.into();
        self
    }
}

/// Every mistake that was found, with the texts they are in. `Display` is [`Problems::render`] without colour.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problems {
    /// The texts.
    pub sources: Sources,
    /// The mistakes.
    pub list: Vec<Problem>,
}

impl Problems {
    /// The mistakes in the order of the texts, those without a place first, each once: a table that two stages read is
    /// checked twice.
    pub fn new(sources: Sources, mut list: Vec<Problem>) -> Problems {
        let mut seen = HashSet::new();
        list.retain(|problem| seen.insert(problem.clone()));
        list.sort_by_key(|problem| {
            problem.origin.as_ref().map(|origin| (origin.file, origin.span.start))
        });
        Problems { sources, list }
    }
}

impl std::fmt::Display for Problems {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.render(false))
    }
}

impl std::error::Error for Problems {}
