//! Formats lists of names in sentences.

/// "`a`, `b` and `c`".
pub(crate) fn and_list<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    join(names.into_iter().map(backticks).collect(), "and")
}

/// "`a`, `b` or `c`".
pub(crate) fn or_list<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    join(names.into_iter().map(backticks).collect(), "or")
}

/// "`a`, `b` and 3 more": at most `limit` names.
pub(crate) fn shortened_list<'a>(names: impl IntoIterator<Item = &'a str>, limit: usize) -> String {
    let mut names: Vec<String> = names.into_iter().map(backticks).collect();
    let more = names.len().saturating_sub(limit);
    names.truncate(limit);
    match more {
        0 => join(names, "and"),
        more => format!("{} and {more} more", names.join(", ")),
    }
}

/// "a, b or c": phrases with commas between them and `conjunction` before the last.
pub(crate) fn join(mut phrases: Vec<String>, conjunction: &str) -> String {
    let last = phrases.pop().unwrap_or_default();
    if phrases.is_empty() { last } else { format!("{} {conjunction} {last}", phrases.join(", ")) }
}

/// A name as code; a backtick in it would end it.
fn backticks(name: &str) -> String {
    format!("`{}`", name.replace('`', "'"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_joined() {
        assert_eq!(and_list([]), "");
        assert_eq!(and_list(["a"]), "`a`");
        assert_eq!(and_list(["a", "b", "c"]), "`a`, `b` and `c`");
        assert_eq!(or_list(["a", "b"]), "`a` or `b`");
        assert_eq!(shortened_list(["a", "b"], 2), "`a` and `b`");
        assert_eq!(shortened_list(["a", "b", "c", "d"], 2), "`a`, `b` and 2 more");
    }
}
