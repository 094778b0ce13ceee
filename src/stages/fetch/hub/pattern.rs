//! Patterns of paths, as the metadata of data sets on the Hugging Face Hub has them: `*`, `**`, `?`
//! and `[…]`.

use regex::Regex;

/// The longest pattern.
const LONGEST: usize = 1000;

/// A pattern of paths.
pub(super) struct Pattern(Regex);

impl Pattern {
    /// Parses a pattern. A path that is a folder's stands for all files in it.
    ///
    /// # Errors
    /// A sentence, if it isn't one.
    pub(super) fn parse(text: &str) -> Result<Pattern, String> {
        let invalid = || format!("`{}` is no pattern of paths", text.escape_debug());
        if text.len() > LONGEST {
            return Err(invalid());
        }
        let expression = format!("^{}(?:/.*)?$", translated(text.trim_start_matches("./")));
        Regex::new(&expression).map(Pattern).map_err(|_| invalid())
    }

    pub(super) fn matches(&self, path: &str) -> bool {
        self.0.is_match(path)
    }
}

/// The pattern as a regular expression.
fn translated(text: &str) -> String {
    let mut expression = String::new();
    let mut rest = text.trim_end_matches('/');
    while let Some(letter) = rest.chars().next() {
        let set = rest.strip_prefix('[').and_then(|inner| inner.split_once(']'));
        let (part, length) = match (letter, set) {
            _ if rest.starts_with("**/") => ("(?:.*/)?".to_owned(), 3),
            _ if rest.starts_with("**") => (".*".to_owned(), 2),
            ('*', _) => ("[^/]*".to_owned(), 1),
            ('?', _) => ("[^/]".to_owned(), 1),
            ('[', Some((set, _))) if !set.is_empty() => {
                let inner = set.strip_prefix('!').map(|inner| format!("^{}", escaped(inner)));
                (format!("[{}]", inner.unwrap_or_else(|| escaped(set))), set.len() + 2)
            }
            (letter, _) => (regex::escape(&letter.to_string()), letter.len_utf8()),
        };
        expression.push_str(&part);
        rest = rest.get(length..).unwrap_or_default();
    }
    expression
}

/// The letters and ranges of a set: `-` keeps its meaning.
fn escaped(set: &str) -> String {
    regex::escape(set).replace("\\-", "-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_those_of_shells() {
        for (pattern, matching, others) in [
            (
                "data/train-*.parquet",
                &["data/train-0.parquet"][..],
                &["data/a/train-0.parquet"][..],
            ),
            ("**/train/*", &["train/1.jpg", "a/b/train/1.jpg"], &["xtrain/1.jpg"]),
            ("train/**", &["train/a/1.jpg"], &["a/train/1.jpg"]),
            ("./data/", &["data/a/1.jpg", "data"], &["data2/1.jpg"]),
            ("a[0-2]?.zip", &["a1x.zip"], &["a3x.zip", "a1/.zip"]),
            ("[!a]+(b).tar", &["c+(b).tar"], &["a+(b).tar"]),
        ] {
            let parsed = Pattern::parse(pattern).unwrap();
            assert!(matching.iter().all(|path| parsed.matches(path)), "{pattern}");
            assert!(!others.iter().any(|path| parsed.matches(path)), "{pattern}");
        }
        assert!(Pattern::parse(&"*".repeat(2000)).is_err());
    }
}
