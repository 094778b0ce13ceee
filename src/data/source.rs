//! Where pictures (and weights) come from: what `source = "SCHEME:REST"` says. Knows the schemes that are built and those
//! that are planned; fetches nothing.

use std::path::PathBuf;

/// A source that was understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// `synthetic:garments`: pictures that the program draws itself.
    Garments,
    /// `path:FOLDER` or `path:FILE`: what lies there, read in place.
    Path(PathBuf),
    /// A scheme that is known and not built yet: what it is, and what to do instead.
    NotBuilt {
        /// What it is, for a sentence that begins "fetching from …".
        what: &'static str,
        /// What to do instead.
        instead: &'static str,
    },
}

/// A source that wasn't understood: a sentence, and all names that would have been right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unknown {
    /// What is wrong.
    pub message: String,
    /// What was written where a name was expected.
    pub written: String,
    /// The names that there are.
    pub names: Vec<&'static str>,
}

const FOLDER_INSTEAD: &str = "download and unpack it yourself, then write `source = \"path:FOLDER\"`";

/// Schemes that are known and not built yet.
const NOT_BUILT: [(&str, &str, &str); 5] = [
    ("kaggle", "Kaggle", FOLDER_INSTEAD),
    (
        "torchvision",
        "torchvision's weights",
        "leave `weights` out of the train stage's `needs` to begin with random weights, or write `source = \"path:FILE.safetensors\"`",
    ),
    ("https", "the web", FOLDER_INSTEAD),
    ("http", "the web", FOLDER_INSTEAD),
    ("run", "an earlier run", "write `source = \"path:FILE.safetensors\"` with the model file that `pipe show` names"),
];

/// Understands a source.
pub fn parse(text: &str) -> Result<Source, Unknown> {
    let unknown = |message: String, written: &str, names: Vec<&'static str>| {
        Err(Unknown { message, written: written.to_owned(), names })
    };
    let (scheme, rest) = text.split_once(':').unwrap_or((text, ""));
    match scheme {
        "synthetic" if rest == "garments" => Ok(Source::Garments),
        "synthetic" => unknown(format!("nothing synthetic is called `{rest}`"), rest, vec!["garments"]),
        "path" if rest.is_empty() => unknown("`path:` names no folder".into(), "", Vec::new()),
        "path" => Ok(Source::Path(PathBuf::from(rest))),
        _ => match NOT_BUILT.iter().find(|(name, ..)| *name == scheme) {
            Some((_, what, instead)) => Ok(Source::NotBuilt { what, instead }),
            None => {
                let known = ["synthetic", "path"].into_iter().chain(NOT_BUILT.iter().map(|(name, ..)| *name));
                unknown(format!("there is no source of the kind `{scheme}:`"), scheme, known.collect())
            }
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_told_apart() {
        assert_eq!(parse("synthetic:garments"), Ok(Source::Garments));
        assert_eq!(parse("path:/data/a:b"), Ok(Source::Path("/data/a:b".into())));
        assert!(matches!(parse("kaggle:a/b"), Ok(Source::NotBuilt { what: "Kaggle", .. })));
        assert!(parse("synthetic:shoes").unwrap_err().message.contains("`shoes`"));
        assert!(parse("kagle:a/b").unwrap_err().names.contains(&"kaggle"));
        assert!(parse("path:").is_err() && parse("").is_err());
    }
}
