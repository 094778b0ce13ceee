//! Which folders have no file in them.

use std::collections::HashSet;

/// The outermost of the folders in which none of the paths is, with a `/` at the end. Folders are
/// given without one, each after those around it.
pub(crate) fn outermost_empty<'a>(
    folders: &[String],
    paths: impl IntoIterator<Item = &'a str>,
) -> Vec<String> {
    let mut used: HashSet<&str> = HashSet::new();
    for path in paths {
        let mut rest = path.trim_end_matches('/');
        // A path that is a folder itself, such as one that can't be read, isn't empty.
        while used.insert(rest) {
            let Some((parent, _)) = rest.rsplit_once('/') else { break };
            rest = parent;
        }
    }
    let is_empty = |path: &str| !used.contains(path);
    let is_outermost =
        |path: &str| path.rsplit_once('/').is_none_or(|(parent, _)| !is_empty(parent));
    let empty = folders.iter().filter(|path| is_empty(path) && is_outermost(path));
    empty.map(|path| format!("{path}/")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_folders_in_each_other_the_outermost_is_named() {
        let folders = ["a", "a/b", "c", "c/d", "c/d/e", "f"].map(str::to_owned);
        assert_eq!(outermost_empty(&folders, ["a/b/1.png", "c/2.png"]), ["c/d/", "f/"]);
        assert_eq!(outermost_empty(&folders, ["c/d/", "f"]), ["a/", "c/d/e/"]);
    }
}
