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
    /// `hf:OWNER/NAME[@REVISION]`, or the address of its page.
    Hub(HubSource),
    /// `https://…` (or `http://…` on this machine): the URL of a file.
    Web(String),
    /// `run:ID/STAGE`: the output of a stage of an earlier run.
    Run {
        /// An id, a unique prefix of one, or `@0`.
        run: String,
        stage: String,
    },
}

/// A repository on the Hugging Face Hub, or a file of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HubSource {
    /// None if the name doesn't say it.
    pub kind: Option<HubKind>,
    /// `OWNER/NAME`
    pub id: String,
    /// A branch, a tag or a commit; the main branch by default.
    pub revision: Option<String>,
    /// The path of the only file that is wanted.
    pub file: Option<String>,
}

/// The kind of repository that a name says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HubKind {
    Dataset,
    Model,
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

const SCHEMES: [&str; 7] = ["synthetic", "path", "kaggle", "hf", "torchvision", "https", "run"];

/// Beginnings of the addresses of pages on the Hugging Face Hub.
const HUB_PAGES: [&str; 3] =
    ["https://huggingface.co/", "https://www.huggingface.co/", "https://hf.co/"];

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
        "hf" => hub(rest).ok_or_else(|| UnknownSource {
            message: format!("`{text}` names no repository on the Hugging Face Hub"),
            given: String::new(),
            known: vec!["`hf:OWNER/NAME`, `hf:OWNER/NAME@REVISION` or the address of its page"],
        }),
        "https" if HUB_PAGES.iter().any(|page| text.starts_with(page)) => {
            hub(text).ok_or_else(|| UnknownSource {
                message: format!("`{text}` is no page of a data set or a model"),
                given: String::new(),
                known: vec![
                    "an address such as https://huggingface.co/datasets/OWNER/NAME or https://huggingface.co/OWNER/NAME",
                ],
            })
        }
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

/// `[datasets/|models/]OWNER/NAME[@REVISION]`, or the address of the page of a repository, or of a
/// revision or a file of it.
fn hub(text: &str) -> Option<Source> {
    let page = HUB_PAGES.iter().find_map(|page| text.strip_prefix(page));
    let path = match page {
        Some(rest) => rest.split(['?', '#']).next()?,
        None => text,
    };
    let (kind, path) = match path.split_once('/') {
        Some(("datasets", rest)) => (Some(HubKind::Dataset), rest),
        Some(("models", rest)) if page.is_none() => (Some(HubKind::Model), rest),
        _ => (page.map(|_| HubKind::Model), path),
    };
    let (path, revision) = match path.split_once('@') {
        Some((path, revision)) => (path, Some(revision.to_owned())),
        None => (path, None),
    };
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    let (owner, name, revision, file) = match parts.as_slice() {
        [owner, name] => (owner, name, revision, None),
        [owner, name, "tree", revision] if page.is_some() => {
            (owner, name, Some(decoded(revision)?), None)
        }
        [owner, name, "resolve" | "blob" | "raw", revision, file @ ..]
            if page.is_some() && !file.is_empty() =>
        {
            (owner, name, Some(decoded(revision)?), Some(decoded(&file.join("/"))?))
        }
        [owner, name, "viewer" | "discussions" | "tree", ..] if page.is_some() => {
            (owner, name, None, None)
        }
        _ => return None,
    };
    let has_revision = revision.as_ref().is_none_or(|text| {
        !text.is_empty() && !text.contains("..") && text.chars().all(|letter| !letter.is_control())
    });
    (has_revision && is_slug(owner) && is_slug(name))
        .then(|| Source::Hub(HubSource { kind, id: format!("{owner}/{name}"), revision, file }))
}

/// A name in an address without percent encoding. None if it isn't UTF-8 then.
fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let code = after.get(..2).and_then(|code| std::str::from_utf8(code).ok());
        let code = code.and_then(|code| u8::from_str_radix(code, 16).ok());
        let (byte, after) = match code.filter(|_| byte == b'%') {
            Some(code) => (code, after.get(2..).unwrap_or_default()),
            None => (byte, after),
        };
        bytes.push(byte);
        rest = after;
    }
    String::from_utf8(bytes).ok()
}

fn is_slug(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
        && !text.starts_with('.')
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
    fn repositories_on_the_hub_are_named_in_each_way() {
        let hub = |kind, revision: Option<&str>, file: Option<&str>| {
            let (revision, file) = (revision.map(str::to_owned), file.map(str::to_owned));
            Ok(Source::Hub(HubSource { kind, id: "a-b/c_d.e".into(), revision, file }))
        };
        let (set, model) = (Some(HubKind::Dataset), Some(HubKind::Model));
        for (text, found) in [
            ("hf:a-b/c_d.e", hub(None, None, None)),
            ("hf:a-b/c_d.e@v1.0", hub(None, Some("v1.0"), None)),
            (
                "hf:datasets/a-b/c_d.e@refs/convert/parquet",
                hub(set, Some("refs/convert/parquet"), None),
            ),
            ("hf:models/a-b/c_d.e", hub(model, None, None)),
            ("https://huggingface.co/a-b/c_d.e", hub(model, None, None)),
            ("https://hf.co/datasets/a-b/c_d.e/viewer/default/train?row=1", hub(set, None, None)),
            ("hf:https://huggingface.co/datasets/a-b/c_d.e/", hub(set, None, None)),
            (
                "https://huggingface.co/datasets/a-b/c_d.e/tree/refs%2Fpr%2F1",
                hub(set, Some("refs/pr/1"), None),
            ),
            (
                "https://huggingface.co/a-b/c_d.e/resolve/main/x/y%20z.bin?download=true",
                hub(model, Some("main"), Some("x/y z.bin")),
            ),
        ] {
            assert_eq!(parse(text), found, "{text}");
        }
        for text in
            ["hf:", "hf:a", "hf:a/b/c", "hf:a/b@", "hf:../b", "hf:a b/c", "https://hf.co/docs"]
        {
            parse(text).unwrap_err();
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
