//! Parses `source = "SCHEME:REST"` of a fetch stage. Text only: it fetches nothing, and
//! knows no names of weights and no runs.

use std::path::PathBuf;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// `synthetic:garments`: images that the program draws.
    Garments,
    /// `path:FOLDER` or `path:FILE`, read in place.
    Path(PathBuf),
    /// `torchvision:NAME`: published weights, such as `resnet50/V2`.
    Torchvision(String),
    /// `https://…` (or `http://…` on this machine): the URL of a file.
    Web(String),
    /// `run:ID/STAGE`: the output of a stage of an earlier run.
    Run {
        /// An id, a unique prefix of one, or `@0`.
        run: String,
        stage: String,
    },
    /// A known scheme without an implementation.
    Unsupported {
        /// For a sentence that begins "fetching from …".
        name: &'static str,
        /// The alternative.
        help: &'static str,
    },
}

/// A source that can't be parsed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownSource {
    pub message: String,
    /// The text that was given where a name was expected.
    pub given: String,
    /// The valid names.
    pub known: Vec<&'static str>,
}

const UNSUPPORTED: [(&str, &str, &str); 1] = [(
    "kaggle",
    "Kaggle",
    "download and unpack it yourself, then write `source = \"path:FOLDER\"`",
)];

const SUPPORTED: [&str; 5] = ["synthetic", "path", "torchvision", "https", "run"];

pub fn parse(text: &str) -> Result<Source, UnknownSource> {
    let unknown = |message: String, given: &str, known: Vec<&'static str>| {
        Err(UnknownSource { message, given: given.to_owned(), known })
    };
    let (scheme, rest) = text.split_once(':').unwrap_or((text, ""));
    match scheme {
        "synthetic" if rest == "garments" => Ok(Source::Garments),
        "synthetic" => {
            unknown(format!("there is no synthetic data set `{rest}`"), rest, vec!["garments"])
        }
        "path" if rest.is_empty() => unknown("`path:` names no folder".into(), "", Vec::new()),
        "path" => Ok(Source::Path(PathBuf::from(rest))),
        "torchvision" if rest.is_empty() => {
            unknown("`torchvision:` names no weights".into(), "", Vec::new())
        }
        "torchvision" => Ok(Source::Torchvision(rest.to_owned())),
        "https" | "http" => Ok(Source::Web(text.to_owned())),
        "run" => match rest.split_once('/') {
            Some((run, stage)) if !run.is_empty() && !stage.is_empty() => {
                Ok(Source::Run { run: run.to_owned(), stage: stage.to_owned() })
            }
            _ => unknown(
                "`run:` needs a run and one of its stages, such as `run:k3x9qa/train`".into(),
                rest,
                Vec::new(),
            ),
        },
        _ => match UNSUPPORTED.iter().find(|(name, ..)| *name == scheme) {
            Some((_, name, help)) => Ok(Source::Unsupported { name, help }),
            None => {
                let unsupported = UNSUPPORTED.iter().map(|(name, ..)| *name);
                let known = SUPPORTED.into_iter().chain(unsupported).collect();
                unknown(format!("unknown source `{scheme}:`"), scheme, known)
            }
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_scheme_is_parsed_and_others_are_refused() {
        assert_eq!(parse("synthetic:garments"), Ok(Source::Garments));
        assert_eq!(parse("path:/data/a:b"), Ok(Source::Path("/data/a:b".into())));
        assert!(matches!(parse("kaggle:a/b"), Ok(Source::Unsupported { name: "Kaggle", .. })));
        assert!(parse("synthetic:shoes").unwrap_err().message.contains("`shoes`"));
        assert!(parse("kagle:a/b").unwrap_err().known.contains(&"kaggle"));
        assert_eq!(parse("torchvision:resnet50/V2"), Ok(Source::Torchvision("resnet50/V2".into())));
        assert_eq!(parse("https://a.b/c.pth"), Ok(Source::Web("https://a.b/c.pth".into())));
        assert_eq!(
            parse("run:@0/train"),
            Ok(Source::Run { run: "@0".into(), stage: "train".into() })
        );
        assert!(parse("run:k3x9qa").unwrap_err().message.contains("`run:k3x9qa/train`"));
        assert!(parse("torchvision:").is_err());
        assert!(parse("path:").is_err() && parse("").is_err());
    }
}
