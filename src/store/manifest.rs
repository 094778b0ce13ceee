//! The manifest: the files of an artifact with path, length and digest, and its canonical text. The
//! artifact's digest is the digest of that text, so it protects every entry.

use super::digest::Digest;
use serde::{Deserialize, Serialize};

/// The name of the manifest in the artifact's folder. A stage can't write a file of this name.
pub(super) const NAME: &str = "manifest.json";

/// The format of manifests. Versions: 1, the first.
const FORMAT: u32 = 1;

/// A file in a manifest or a listing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListedFile {
    /// The relative path, separated by `/`.
    pub path: String,
    /// The length in bytes.
    pub len: u64,
    /// The digest of the content by [`digest_file`](super::digest_file).
    pub digest: Digest,
}

/// The files of an artifact.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Manifest {
    /// Sorted by path.
    pub files: Vec<ListedFile>,
}

/// The result of parsing a manifest.
pub(super) enum Parsed {
    Manifest(Manifest),
    /// It has this newer format.
    Newer(u32),
    Invalid,
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
    /// The canonical text: JSON with one file per line.
    pub(super) fn text(&self) -> String {
        text(self.files.iter())
    }

    pub fn digest(&self) -> Digest {
        Digest::of(self.text().as_bytes())
    }

    /// The digest of the listed files of the artifact `digest` (a `/` at the end means a folder, an
    /// empty list all files): what a stage depends on that reads only those. Missing files are
    /// ignored.
    pub fn part_of(&self, digest: &Digest, reads: &[&str]) -> Digest {
        if reads.is_empty() { *digest } else { self.part(reads) }
    }

    /// The digest of the file or folder at `path` in the artifact `digest`; that of everything if
    /// there is none, as for images that are read in place.
    pub fn part_at(&self, digest: &Digest, path: &str) -> Digest {
        let folder = format!("{path}/");
        let reads = [path, folder.as_str()];
        let has_it = |file: &ListedFile| is_among(&file.path, &reads);
        let wanted: &[&str] = if self.files.iter().any(has_it) { &reads } else { &[] };
        self.part_of(digest, wanted)
    }

    /// The digest of a manifest of the files listed in `reads` alone: a `/` at the end means a
    /// folder, an empty list all files.
    pub(super) fn part(&self, reads: &[&str]) -> Digest {
        let wanted = |file: &&ListedFile| reads.is_empty() || is_among(&file.path, reads);
        Digest::of(text(self.files.iter().filter(wanted)).as_bytes())
    }

    pub(super) fn parse(bytes: &[u8]) -> Parsed {
        match serde_json::from_slice::<Written>(bytes) {
            Ok(Written { format: FORMAT, files })
                if files.iter().all(|file| is_inside(&file.path)) =>
            {
                Parsed::Manifest(Manifest { files })
            }
            // A newer format still has the field `format`.
            _ => match serde_json::from_slice(bytes) {
                Ok(Format { format }) if format > FORMAT => Parsed::Newer(format),
                _ => Parsed::Invalid,
            },
        }
    }
}

/// Whether a path is one of `listed`, or in a folder of it, which ends with a `/`.
pub(super) fn is_among(path: &str, listed: &[&str]) -> bool {
    listed.iter().any(|&one| path == one || (one.ends_with('/') && path.starts_with(one)))
}

fn text<'a>(files: impl Iterator<Item = &'a ListedFile>) -> String {
    let mut text = format!("{{\"format\":{FORMAT},\"files\":[");
    for (index, file) in files.enumerate() {
        text.push_str(if index == 0 { "\n" } else { ",\n" });
        text.push_str(&serde_json::to_string(file).expect("a file's entry serializes to JSON"));
    }
    text.push_str("\n]}\n");
    text
}

/// Whether a relative path stays inside its base folder.
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
    fn a_path_that_leaves_the_folder_is_refused() {
        assert!(is_inside("a/b.c/...") && is_inside("..a"));
        assert!(
            ["", "/a", "a/", "a//b", "../a", "a/../b", "."].iter().all(|path| !is_inside(path))
        );
    }

    proptest! {
        #[test]
        fn a_manifest_round_trips_and_a_truncated_one_is_refused(files in files()) {
            let manifest = Manifest { files };
            let text = manifest.text();
            prop_assert!(matches!(Manifest::parse(text.as_bytes()), Parsed::Manifest(read) if read == manifest));
            for length in (0..text.len() - 1).step_by(7) {
                prop_assert!(matches!(Manifest::parse(&text.as_bytes()[..length]), Parsed::Invalid));
            }
            prop_assert_eq!(manifest.part(&[]), manifest.digest());
        }

        #[test]
        fn a_partial_digest_depends_only_on_its_files(files in files(), other in files()) {
            let reads = ["a", "b/"];
            let mut changed: Vec<ListedFile> = other;
            changed.retain(|file| file.path != "a" && !file.path.starts_with("b/"));
            changed.extend(files.iter().filter(|file| file.path == "a" || file.path.starts_with("b/")).cloned());
            changed.sort_by(|a, b| a.path.cmp(&b.path));
            prop_assert_eq!(Manifest { files }.part(&reads), Manifest { files: changed }.part(&reads));
        }

        #[test]
        fn different_manifests_have_different_digests(a in files(), b in files()) {
            let (a, b) = (Manifest { files: a }, Manifest { files: b });
            prop_assert_eq!(a == b, a.digest() == b.digest());
        }

        #[test]
        fn arbitrary_bytes_are_refused(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            prop_assert!(matches!(Manifest::parse(&bytes), Parsed::Invalid));
        }
    }
}
