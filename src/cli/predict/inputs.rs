//! The images that `pipe predict` was given: paths, folders, or standard input.

use super::super::failure::Failure;
use super::super::images::{ImageFile, Unreadable, walk};
use super::super::init::no_images;
use super::super::shared::shown;
use crate::common::special_file::special;
use crate::model::{Content, GivenImage, MAX_IMAGE_FILE};
use std::ffi::OsString;
use std::io::{self, BufRead, BufReader, Read, stdin};
use std::iter;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// Bytes of standard input that are looked at to tell an image from paths.
const START: usize = 64 * 1024;
/// Longest path on standard input: far above what file systems allow.
const LONGEST_PATH: u64 = 64 * 1024;

/// The images to classify, in order.
pub(super) struct Inputs {
    /// Their number, where it is known.
    pub(super) total: Option<u64>,
    pub(super) images: Box<dyn Iterator<Item = GivenImage> + Send>,
}

/// The images that `named` stands for. Folders are searched once for their number, and again as the
/// images are needed, so that a list of them is never held.
///
/// # Errors
/// When a path isn't there, or is neither a file nor a folder; when a folder has no images.
pub(super) fn inputs(named: &[PathBuf], null: bool) -> Result<Inputs, Failure> {
    let is_stdin = |path: &PathBuf| path.as_os_str() == "-";
    if let [only] = named
        && is_stdin(only)
    {
        return Ok(Inputs { total: None, images: from_stdin(null)? });
    }
    if named.iter().any(is_stdin) {
        return Err(Failure::invalid("`-` stands for standard input, and must be the only image")
            .help("a file of this name is `./-`"));
    }
    if null {
        return Err(Failure::invalid("`--null` is about paths on standard input")
            .help("name `-` in place of the images"));
    }
    let mut total = 0;
    for path in named {
        total += count(path)?;
    }
    let named: Vec<PathBuf> = named.to_vec();
    let images = Box::new(named.into_iter().flat_map(images_of));
    Ok(Inputs { total: Some(total), images })
}

/// The number of images that a path stands for.
fn count(path: &Path) -> Result<u64, Failure> {
    let metadata = path.metadata().map_err(|error| {
        Failure::invalid(match error.kind() {
            io::ErrorKind::NotFound => format!("there is no file or folder `{}`", shown(path)),
            _ => format!("failed to read `{}`: {error}", shown(path)),
        })
    })?;
    if let Some(kind) = special(metadata.file_type()) {
        let message = format!("`{}` is {kind}, neither a file nor a folder", shown(path));
        return Err(Failure::invalid(message).help("`-` reads standard input"));
    }
    if metadata.is_file() {
        return Ok(1);
    }
    match walk(path).count() {
        0 => Err(no_images(path)),
        count => Ok(count as u64),
    }
}

/// The images that a path stands for.
fn images_of(path: PathBuf) -> Box<dyn Iterator<Item = GivenImage> + Send> {
    if !path.is_dir() {
        return Box::new(iter::once(file(path)));
    }
    Box::new(walk(&path).map(|found| match found {
        Ok(ImageFile { path, .. }) => file(path),
        Err(Unreadable { path, reason }) => {
            GivenImage { name: path.display().to_string(), content: Content::Unreadable(reason) }
        }
    }))
}

fn file(path: PathBuf) -> GivenImage {
    GivenImage { name: path.display().to_string(), content: Content::File(path) }
}

/// Standard input: one image, else paths. Names of files have no zero byte, and every image has one
/// near its beginning.
fn from_stdin(null: bool) -> Result<Box<dyn Iterator<Item = GivenImage> + Send>, Failure> {
    let failed =
        |error: io::Error| Failure::failed(format!("failed to read standard input: {error}"));
    let mut input = BufReader::with_capacity(START, stdin());
    let start = input.fill_buf().map_err(failed)?;
    if !null && start.contains(&0) {
        if is_text(start) {
            return Err(
                Failure::invalid("the paths on standard input end in NUL").help("add `--null`")
            );
        }
        let mut bytes = Vec::new();
        input.take(MAX_IMAGE_FILE + 1).read_to_end(&mut bytes).map_err(failed)?;
        let image = GivenImage { name: "-".to_owned(), content: Content::Bytes(bytes) };
        return Ok(Box::new(iter::once(image)));
    }
    Ok(Box::new(Paths { input, end: if null { 0 } else { b'\n' }, is_over: false }))
}

/// Whether bytes are paths rather than an image: text without control characters but for the ends,
/// and without empty paths. Every image that decodes has zero bytes one after another.
fn is_text(bytes: &[u8]) -> bool {
    let is_control =
        |byte: &u8| byte.is_ascii_control() && !matches!(byte, 0 | b'\t' | b'\n' | b'\r');
    // A character may be cut at the end.
    let is_utf8 =
        std::str::from_utf8(bytes).map_or_else(|error| error.error_len().is_none(), |_| true);
    let has_empty = bytes.windows(2).any(|pair| pair == [0, 0]);
    is_utf8 && !has_empty && !bytes.iter().any(is_control)
}

/// Paths that are separated by the byte `end`; empty ones are left out.
struct Paths<R> {
    input: R,
    end: u8,
    is_over: bool,
}

impl<R: BufRead> Iterator for Paths<R> {
    type Item = GivenImage;

    fn next(&mut self) -> Option<GivenImage> {
        while !self.is_over {
            match self.path() {
                Ok(path) if path.is_empty() => {}
                Ok(path) => return Some(file(PathBuf::from(OsString::from_vec(path)))),
                Err(error) => {
                    self.is_over = true;
                    let content = Content::Unreadable(error.to_string());
                    return Some(GivenImage { name: "-".to_owned(), content });
                }
            }
        }
        None
    }
}

impl<R: BufRead> Paths<R> {
    fn path(&mut self) -> io::Result<Vec<u8>> {
        let mut path = Vec::new();
        let length = self.input.by_ref().take(LONGEST_PATH).read_until(self.end, &mut path)?;
        self.is_over = length == 0;
        if path.last() == Some(&self.end) {
            path.pop();
        } else if length as u64 == LONGEST_PATH {
            return Err(io::Error::other("it has a line that is too long for a path"));
        }
        // As lists from Windows have it.
        if self.end == b'\n' && path.last() == Some(&b'\r') {
            path.pop();
        }
        Ok(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn names(images: impl Iterator<Item = GivenImage>) -> Vec<String> {
        images.map(|image| image.name).collect()
    }

    #[test]
    fn a_folder_stands_for_its_images_and_a_file_for_itself() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        for name in ["a.png", "sub/b.jfif", "sub/.c.png", "texts/notes.txt"] {
            fs::create_dir_all(path(name).parent().unwrap()).unwrap();
            fs::write(path(name), b"x").unwrap();
        }
        let found = inputs(&[path("texts/notes.txt"), path("sub"), path("a.png")], false).unwrap();
        let expected =
            ["texts/notes.txt", "sub/b.jfif", "a.png"].map(|name| path(name).display().to_string());
        assert_eq!((found.total, names(found.images)), (Some(3), expected.to_vec()));
        for wrong in [&["none"][..], &["texts"], &["-", "a.png"], &["/dev/null"]] {
            let wrong: Vec<PathBuf> = wrong.iter().map(PathBuf::from).collect();
            let here = wrong.iter().map(|one| match one.is_absolute() || one.as_os_str() == "-" {
                true => one.clone(),
                false => folder.path().join(one),
            });
            assert!(inputs(&here.collect::<Vec<_>>(), false).is_err(), "{wrong:?}");
        }
        assert!(inputs(&[path("a.png")], true).is_err());
    }

    #[test]
    fn paths_come_line_by_line_or_between_zero_bytes() {
        let lines = |text: &'static [u8], end| names(Paths { input: text, end, is_over: false });
        assert_eq!(lines(b"a.png\n\nb c.png\r\nd", b'\n'), ["a.png", "b c.png", "d"]);
        assert_eq!(lines(b"a\nb\0c\r\0", 0), ["a\nb", "c\r"]);
        assert_eq!(lines(b"", b'\n'), [""; 0]);
    }

    #[test]
    fn a_list_with_zero_bytes_is_told_from_an_image() {
        assert!(is_text(b"BMW/a.png\0b.png\0") && is_text("a/\u{fc}".as_bytes().split_at(3).0));
        for image in [
            &b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"[..],
            b"BM\x46\0\0\0\0\0\0\0\x36\0",
            b"\0\0\0\x18ftypheic",
        ] {
            assert!(!is_text(image), "{image:?}");
        }
    }

    #[test]
    fn a_line_without_an_end_is_named_and_not_kept() {
        let input = BufReader::new(io::repeat(b'x'));
        let found: Vec<_> = Paths { input, end: b'\n', is_over: false }.collect();
        assert_eq!(found.len(), 1);
        assert!(matches!(found[0].content, Content::Unreadable(_)));
    }
}
