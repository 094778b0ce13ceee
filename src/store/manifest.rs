//! Lists of files by path, length and digest, and the one text that a list has. An artifact's digest is that of its
//! manifest's text, so a manifest that reads with the right digest is right in every entry.

use super::digest::Digest;
use serde::{Deserialize, Serialize};

/// The name of the manifest in an artifact's folder. A stage can't write a file of this name.
pub(super) const NAME: &str = "manifest.json";

/// The format of manifests.
const FORMAT: u32 = 1;

/// A file in a manifest or a listing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListedFile {
    /// Its path, relative, with `/` between its parts.
    pub path: String,
    /// Its length in bytes.
    pub len: u64,
    /// The digest of its content, as [`digest_file`](super::digest_file) makes it.
    pub digest: Digest,
}

/// The files of an artifact.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Manifest {
    /// Its files, sorted by path.
    pub files: Vec<ListedFile>,
}

/// What a text turned out to be.
pub(super) enum Parsed {
    /// A manifest.
    Manifest(Manifest),
    /// A manifest of a newer format.
    Newer(u32),
    /// Something else.
    Nothing,
}

#[derive(Deserialize)]
struct Format {
    format: u32,
}

#[derive(Deserialize)]
struct Written {
    format: u32,
    files: Vec<ListedFile>,
}

impl Manifest {
    /// Its text: JSON, a file a line.
    pub(super) fn text(&self) -> String {
        text(self.files.iter())
    }

    /// The digest of its text.
    pub fn digest(&self) -> Digest {
        Digest::of(self.text().as_bytes())
    }

    /// The digest that a manifest of some of its files would have: those that `reads` names, folders with a `/` at the
    /// end; all where `reads` is empty.
    pub(super) fn part(&self, reads: &[&str]) -> Digest {
        let wanted = |path: &str| {
            reads.is_empty()
                || reads
                    .iter()
                    .any(|&read| path == read || (read.ends_with('/') && path.starts_with(read)))
        };
        Digest::of(text(self.files.iter().filter(|file| wanted(&file.path))).as_bytes())
    }

    /// Reads a text.
    pub(super) fn parse(bytes: &[u8]) -> Parsed {
        match serde_json::from_slice::<Written>(bytes) {
            Ok(Written { format: FORMAT, files })
                if files.iter().all(|file| is_inside(&file.path)) =>
            {
                Parsed::Manifest(Manifest { files })
            }
            // Whatever else a newer format changes, it says that it is one.
            _ => match serde_json::from_slice(bytes) {
                Ok(Format { format }) if format > FORMAT => Parsed::Newer(format),
                _ => Parsed::Nothing,
            },
        }
    }
}

fn text<'a>(files: impl Iterator<Item = &'a ListedFile>) -> String {
    let mut text = format!("{{\"format\":{FORMAT},\"files\":[");
    for (index, file) in files.enumerate() {
        text.push_str(if index == 0 { "\n" } else { ",\n" });
        // A path is UTF-8, so this can't fail.
        text.push_str(&serde_json::to_string(file).unwrap_or_default());
    }
    text.push_str("\n]}\n");
    text
}

/// Whether a relative path stays inside the folder it is relative to.
fn is_inside(path: &str) -> bool {
    path.split('/').all(|part| !matches!(part, "" | "." | ".."))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn files() -> impl Strategy<Value = Vec<ListedFile>> {
        let file = ("[a-c\"\\\\\n\u{e9}]{1,3}(/[a-c]{1,2}){0,2}", any::<u64>(), any::<[u8; 32]>());
        proptest::collection::btree_map(file.0, (file.1, file.2), 0..6).prop_map(|files| {
            let entry = |(path, (len, digest))| ListedFile {
                path,
                len,
                digest: Digest::from_bytes(digest),
            };
            files.into_iter().map(entry).collect()
        })
    }

    #[test]
    fn paths_stay_inside() {
        assert!(is_inside("a/b.c/...") && is_inside("..a"));
        assert!(
            ["", "/a", "a/", "a//b", "../a", "a/../b", "."].iter().all(|path| !is_inside(path))
        );
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(files in files()) {
            let manifest = Manifest { files };
            let text = manifest.text();
            prop_assert!(matches!(Manifest::parse(text.as_bytes()), Parsed::Manifest(read) if read == manifest));
            for length in (0..text.len() - 1).step_by(7) {
                prop_assert!(matches!(Manifest::parse(&text.as_bytes()[..length]), Parsed::Nothing));
            }
            prop_assert_eq!(manifest.part(&[]), manifest.digest());
        }

        #[test]
        fn a_part_sees_only_its_files(files in files(), other in files()) {
            let reads = ["a", "b/"];
            let mut changed: Vec<ListedFile> = other;
            changed.retain(|file| file.path != "a" && !file.path.starts_with("b/"));
            changed.extend(files.iter().filter(|file| file.path == "a" || file.path.starts_with("b/")).cloned());
            changed.sort_by(|a, b| a.path.cmp(&b.path));
            prop_assert_eq!(Manifest { files }.part(&reads), Manifest { files: changed }.part(&reads));
        }

        #[test]
        fn digests_tell_lists_apart(a in files(), b in files()) {
            let (a, b) = (Manifest { files: a }, Manifest { files: b });
            prop_assert_eq!(a == b, a.digest() == b.digest());
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            prop_assert!(matches!(Manifest::parse(&bytes), Parsed::Nothing));
        }
    }
}
