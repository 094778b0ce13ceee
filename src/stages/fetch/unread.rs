//! The keys that are read for some sources only. Beside another source they are refused: a key that
//! is passed over without a word misleads.

use super::{FetchKeys, FetchOptions, archive, weights};
use crate::config::{GivenTable, Handle};
use crate::data::source::{self, HubKind, Source};
use crate::engine::{Resolver, StageError};

/// A key that is read for some sources only.
struct Rule {
    name: &'static str,
    /// Where it is given.
    handle: fn(&FetchKeys) -> Option<&Handle>,
    is_read: fn(&Source) -> bool,
    /// The sources for which it is read, in words.
    of: &'static str,
    /// Such a source.
    example: &'static str,
}

const RULES: [Rule; 4] = [
    Rule {
        name: "config",
        handle: |keys| keys.config.as_ref().map(|key| key.handle()),
        is_read: is_data_set_of_the_hub,
        of: "data sets on the Hub",
        example: "hf:OWNER/NAME",
    },
    Rule {
        name: "splits",
        handle: |keys| keys.splits.as_ref().map(|key| key.handle()),
        is_read: is_data_set_of_the_hub,
        of: "data sets on the Hub",
        example: "hf:OWNER/NAME",
    },
    Rule {
        name: "synthetic",
        handle: |keys| Some(keys.synthetic.handle()),
        is_read: |source| *source == Source::Garments,
        of: "images that are drawn",
        example: "synthetic:garments",
    },
    Rule {
        name: "on_missing",
        handle: |keys| Some(keys.on_missing.handle()),
        is_read: |source| match source {
            Source::Path(path) => !archive::is_images(path) && !weights::is_weights(path),
            _ => false,
        },
        of: "folders of images",
        example: "path:FOLDER",
    },
];

/// Whether a source may be one, as far as its name says.
fn is_data_set_of_the_hub(source: &Source) -> bool {
    matches!(source, Source::Hub(hub) if hub.kind != Some(HubKind::Model))
}

/// Reports keys that aren't read for this source.
pub(super) fn check(keys: &FetchKeys, resolver: &mut Resolver) {
    let Ok(source) = source::parse(&keys.source.0) else { return };
    for rule in RULES.iter().filter(|rule| !(rule.is_read)(&source)) {
        let Some(handle) = (rule.handle)(keys).filter(|handle| handle.is_given()) else { continue };
        let Rule { name, of, example, .. } = rule;
        resolver.report(
            handle
                .error(format!("`{name}` is for {of}"))
                .label("the source is another one")
                .help(format!("leave it out, or write source = \"{example}\"")),
        );
    }
}

/// The same for a repository of which only the Hub says that it is a model.
pub(super) fn check_model(id: &str, options: &FetchOptions) -> Result<(), StageError> {
    let given = [("config", options.config.is_some()), ("splits", options.splits.is_some())];
    match given.into_iter().find(|(_, is_given)| *is_given) {
        Some((name, _)) => {
            let message = format!("`{name}` is for data sets on the Hub, and {id} is a model");
            Err(StageError::failed(message).with_help(format!("leave `{name}` out of this stage")))
        }
        None => Ok(()),
    }
}
