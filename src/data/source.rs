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
    /// `kaggle:OWNER/NAME`, with or without a version, or the address of its page.
    Kaggle { owner: String, name: String, version: Option<u64> },
    /// `https://…` (or `http://…` on this machine): the URL of a file.
    Web(String),
    /// `run:ID/STAGE`: the output of a stage of an earlier run.
    Run {
        /// An id, a unique prefix of one, or `@0`.
        run: String,
        stage: String,
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

const SCHEMES: [&str; 6] = ["synthetic", "path", "kaggle", "torchvision", "https", "run"];

/// Beginnings of the addresses of data sets' pages on Kaggle.
const KAGGLE_PAGES: [&str; 2] =
    ["https://www.kaggle.com/datasets/", "https://kaggle.com/datasets/"];

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
        "kaggle" => kaggle(rest).ok_or_else(|| UnknownSource {
            message: format!("`{text}` names no data set of Kaggle's"),
            given: String::new(),
            known: vec![
                "`kaggle:OWNER/NAME`, `kaggle:OWNER/NAME/VERSION` or the address of its page",
            ],
        }),
        "https" if KAGGLE_PAGES.iter().any(|page| text.starts_with(page)) => kaggle(text)
            .ok_or_else(|| UnknownSource {
                message: format!("`{text}` is no page of a data set of Kaggle's"),
                given: String::new(),
                known: vec!["an address such as https://www.kaggle.com/datasets/OWNER/NAME"],
            }),
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
        _ => unknown(format!("unknown source `{scheme}:`"), scheme, SCHEMES.to_vec()),
    }
}

/// `OWNER/NAME`, `OWNER/NAME/VERSION`, `OWNER/NAME/versions/VERSION`, or the address of the page,
/// which may be that of one of its tabs.
fn kaggle(text: &str) -> Option<Source> {
    let text = text.split(['?', '#']).next()?;
    let page = KAGGLE_PAGES.iter().find_map(|page| text.strip_prefix(page));
    let parts: Vec<&str> =
        page.unwrap_or(text).split('/').filter(|part| !part.is_empty()).collect();
    let (owner, name, version) = match parts.as_slice() {
        [owner, name] => (owner, name, None),
        [owner, name, "versions", number] => (owner, name, Some(*number)),
        [owner, name, "data" | "code" | "discussion" | "suggestions" | "settings", ..]
            if page.is_some() =>
        {
            (owner, name, None)
        }
        [owner, name, number] => (owner, name, Some(*number)),
        _ => return None,
    };
    let is_slug = |text: &str| {
        text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
            && !text.starts_with('.')
    };
    let version = match version {
        Some(number) => Some(number.parse().ok().filter(|&number: &u64| number > 0)?),
        None => None,
    };
    (is_slug(owner) && is_slug(name)).then(|| Source::Kaggle {
        owner: (*owner).to_owned(),
        name: (*name).to_owned(),
        version,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_sets_on_kaggle_are_named_in_each_way() {
        let set =
            |version| Ok(Source::Kaggle { owner: "a-b".into(), name: "c_d.e".into(), version });
        for text in [
            "kaggle:a-b/c_d.e",
            "kaggle:a-b/c_d.e/",
            "kaggle:https://www.kaggle.com/datasets/a-b/c_d.e",
            "https://www.kaggle.com/datasets/a-b/c_d.e?select=train",
            "https://kaggle.com/datasets/a-b/c_d.e/data",
        ] {
            assert_eq!(parse(text), set(None), "{text}");
        }
        for text in [
            "kaggle:a-b/c_d.e/3",
            "kaggle:a-b/c_d.e/versions/3",
            "https://www.kaggle.com/datasets/a-b/c_d.e/versions/3",
        ] {
            assert_eq!(parse(text), set(Some(3)), "{text}");
        }
        for text in [
            "kaggle:",
            "kaggle:a",
            "kaggle:a/b/x",
            "kaggle:a/b/0",
            "kaggle:a/b/3/4",
            "kaggle:../b",
            "kaggle:a b/c",
        ] {
            assert!(parse(text).unwrap_err().message.contains("Kaggle"), "{text}");
        }
    }

    #[test]
    fn each_scheme_is_parsed_and_others_are_refused() {
        assert_eq!(parse("synthetic:garments"), Ok(Source::Garments));
        assert_eq!(parse("path:/data/a:b"), Ok(Source::Path("/data/a:b".into())));
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
