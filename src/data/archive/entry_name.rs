//! Paths of an archive's entries: relative to its root, or refused.

/// Which separators the paths of an archive have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Separators {
    Slash,
    /// Zip archives of older Windows programs have backslashes.
    SlashAndBackslash,
}

/// The path with `/` and without `.` and `..`; empty for the root.
///
/// # Errors
/// The problem, to follow the entry's name: "climbs out of the archive".
pub(super) fn checked(name: &str, separators: Separators) -> Result<String, &'static str> {
    let name = match separators {
        Separators::Slash => name.to_owned(),
        Separators::SlashAndBackslash => name.replace('\\', "/"),
    };
    if name.contains('\0') {
        return Err("has a NUL character in its name");
    }
    if name.starts_with('/') {
        return Err("has an absolute path");
    }
    if matches!(name.as_bytes(), [letter, b':', b'/' | b'\\', ..] if letter.is_ascii_alphabetic()) {
        return Err("has a path with a drive letter");
    }
    joined("", &name).ok_or("climbs out of the archive")
}

/// A path with `/` of a foreign list of files, relative to its root.
///
/// # Errors
/// As [`checked`].
pub(crate) fn relative_path(name: &str) -> Result<String, &'static str> {
    checked(name, Separators::Slash)
}

/// Where a link in `folder` points to, relative to the archive's root. None if that is outside.
pub(super) fn link_target(folder: &str, target: &str) -> Option<String> {
    if target.starts_with('/') || target.contains('\0') {
        return None;
    }
    joined(folder, target)
}

/// `path`, relative to `folder`, without `.` and `..`. None if it climbs above the root.
fn joined(folder: &str, path: &str) -> Option<String> {
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()?),
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn paths_are_relative_or_refused() {
        let zip = |name| checked(name, Separators::SlashAndBackslash);
        assert_eq!(zip("./a//b/../c.jpg").as_deref(), Ok("a/c.jpg"));
        assert_eq!(zip("a\\b.jpg").as_deref(), Ok("a/b.jpg"));
        assert_eq!(checked("a\\b.jpg", Separators::Slash).as_deref(), Ok("a\\b.jpg"));
        assert_eq!(zip("./").as_deref(), Ok(""));
        assert_eq!(zip("a:b.jpg").as_deref(), Ok("a:b.jpg"));
        for name in ["../a.jpg", "a/../../b.jpg", "..\\a.jpg", "a/..\\..\\b.jpg", ".."] {
            assert_eq!(zip(name), Err("climbs out of the archive"), "{name}");
        }
        for name in ["/etc/a.jpg", "\\a.jpg", "\\\\server\\a.jpg"] {
            assert_eq!(zip(name), Err("has an absolute path"), "{name}");
        }
        for name in ["C:/a.jpg", "c:\\a.jpg"] {
            assert_eq!(zip(name), Err("has a path with a drive letter"), "{name}");
            assert_eq!(checked(name, Separators::Slash), Err("has a path with a drive letter"));
        }
        assert_eq!(zip("a.jpg\0.txt"), Err("has a NUL character in its name"));
    }

    #[test]
    fn links_are_relative_to_their_folder() {
        assert_eq!(link_target("a/b", "../c.jpg").as_deref(), Some("a/c.jpg"));
        assert_eq!(link_target("", "c.jpg").as_deref(), Some("c.jpg"));
        for target in ["/etc/passwd", "../../../x", "a\0"] {
            assert_eq!(link_target("a/b", target), None, "{target}");
        }
    }

    proptest! {
        #[test]
        fn no_path_leaves_the_archive(name in "[a./\\\\:C]{0,24}") {
            if let Ok(path) = checked(&name, Separators::SlashAndBackslash) {
                let only_names = std::path::Path::new(&path)
                    .components()
                    .all(|part| matches!(part, std::path::Component::Normal(_)));
                prop_assert!(only_names && !path.contains('\\'));
            }
        }
    }
}
