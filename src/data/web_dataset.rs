//! Tar archives as the Python library `webdataset` has them: files with equal names up to the first
//! dot belong together, such as `0001.jpg` with `0001.cls` (the class) or `0001.json` (its label).

use super::DataError;
use super::archive::{Budget, Format, TarEntry, each_entry, format, open_tar};
use super::images::Skipped;
use super::labels::is_class_column;
use super::rejected::{NOT_A_FILE, NOT_CHOSEN, NOT_UTF8, OTHER};
use crate::common::image_files::{EXTENSIONS, is_hidden};
use crate::events::CancellationToken;
use serde_json::Value;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use tar::EntryType;

/// Entries that are looked at to recognize such an archive.
const LOOKED_AT: usize = 200;
/// The largest image file.
const IMAGE: u64 = 1 << 30;
/// The longest label.
const LABEL: u64 = 16 << 20;
/// Extensions of files with the class as a text or a number.
const CLASSES: [&str; 4] = ["cls", "cls.txt", "label", "label.txt"];
/// Why the class of a sample isn't used.
const NO_IMAGE: &str = "no image has its name";

/// An image with its class.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct WebSample {
    /// The path of the image.
    pub path: String,
    pub image: Vec<u8>,
    /// As it is written: a name or a number.
    pub class: Option<String>,
}

/// Files that belong together, as far as they were read.
#[derive(Default)]
struct Group {
    key: String,
    image: Option<(String, Vec<u8>)>,
    class: Option<String>,
    /// The path of the file with the class.
    class_file: Option<String>,
}

/// An entry of an archive.
enum Found<'a> {
    File(&'a str, &'a mut dyn Read),
    Skipped(Skipped),
}

/// The part of a sample that a file is, by its extension.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Image,
    Class,
    Json,
    Other,
}

/// Why no more entries are read.
enum Stop {
    Damaged(io::Error),
    /// It expands to too much: a sentence to follow the archive's name.
    Bomb(String),
    Failed(DataError),
    /// The answer is known.
    Known,
}

/// Whether the file at `path` is such an archive: among its first entries, an image has a class
/// beside it.
pub(crate) fn is_web_dataset(path: &Path) -> bool {
    let (mut key, mut parts, mut count, mut found) = (String::new(), Vec::new(), 0, false);
    let read = each(path, &CancellationToken::new(), |entry| {
        let Found::File(name, _) = entry else { return Ok(()) };
        let (stem, part) = split(name);
        if stem != key {
            key = stem.to_owned();
            parts.clear();
        }
        parts.push(part);
        let has = |part| parts.contains(&part);
        found = has(Part::Image) && (has(Part::Class) || has(Part::Json));
        count += 1;
        if found || count == LOOKED_AT { Err(Stop::Known) } else { Ok(()) }
    });
    found && matches!(read, Ok(()) | Err(Stop::Known))
}

/// Passes each image of the archive at `path`, called `named` in messages, on with its class.
/// Returns the files in it that aren't used.
///
/// # Errors
/// If the archive is damaged, expands to too much or a file in it is too large, and those of
/// `sample`.
pub(crate) fn read(
    path: &Path,
    named: &str,
    cancel: &CancellationToken,
    mut sample: impl FnMut(WebSample) -> Result<(), DataError>,
) -> Result<Vec<Skipped>, DataError> {
    let (mut group, mut skipped) = (Group::default(), Vec::new());
    let mut end = |group: Group, skipped: &mut Vec<Skipped>| match group.image {
        Some((path, image)) => sample(WebSample { path, image, class: group.class }),
        None => {
            let without = |path: &String| Skipped::new(path, format!("{OTHER}: {NO_IMAGE}"));
            skipped.extend(group.class_file.as_ref().map(without));
            Ok(())
        }
    };
    let read = each(path, cancel, |entry| {
        let (name, content) = match entry {
            Found::File(name, content) => (name, content),
            Found::Skipped(one) => {
                skipped.push(one);
                return Ok(());
            }
        };
        let (key, part) = split(name);
        if key != group.key {
            let next = Group { key: key.to_owned(), ..Group::default() };
            end(std::mem::replace(&mut group, next), &mut skipped).map_err(Stop::Failed)?;
        }
        skipped.extend(group.add(name, part, content).map_err(Stop::Damaged)?);
        Ok(())
    });
    let damaged = |reason: &dyn std::fmt::Display| {
        let message = format!("{named} can't be read: {reason}");
        DataError::invalid(message, "the archive is cut short or damaged: get it again")
    };
    match read {
        Ok(()) | Err(Stop::Known) => {}
        Err(Stop::Failed(error)) => return Err(error),
        Err(Stop::Damaged(error)) => return Err(damaged(&error)),
        Err(Stop::Bomb(reason)) => {
            let help = "if you trust it, unpack it yourself, then write `source = \"path:FOLDER\"`";
            return Err(DataError::invalid(format!("{named} {reason}"), help));
        }
    }
    end(group, &mut skipped)?;
    Ok(skipped)
}

/// Passes each entry of an archive on.
fn each(
    path: &Path,
    cancel: &CancellationToken,
    mut file: impl FnMut(Found) -> Result<(), Stop>,
) -> Result<(), Stop> {
    let wrong = |reason: &str| io::Error::new(io::ErrorKind::InvalidData, reason.to_owned());
    let format = format(path).map_err(Stop::Damaged)?.filter(|format| *format != Format::Zip);
    let format = format.ok_or_else(|| Stop::Damaged(wrong("it is no tar archive")))?;
    let opened = File::open(path).map_err(Stop::Damaged)?;
    let mut budget = Budget::of(opened.metadata().map_err(Stop::Damaged)?.len());
    let reader = open_tar(format, opened).map_err(Stop::Damaged)?;
    let reader = reader.ok_or_else(|| Stop::Damaged(wrong("it is no tar archive")))?;
    each_entry(&mut tar::Archive::new(reader), Stop::Damaged, |entry| {
        if cancel.is_cancelled() {
            return Err(Stop::Failed(DataError::Cancelled));
        }
        let TarEntry { name, kind, size, mut content, .. } = entry;
        // Entries that aren't read are decompressed all the same.
        budget.entry().and_then(|()| budget.expand(size)).map_err(Stop::Bomb)?;
        let Ok(name) = std::str::from_utf8(&name) else {
            let shown = String::from_utf8_lossy(&name);
            return file(Found::Skipped(Skipped::new(&shown, NOT_UTF8)));
        };
        let name = name.trim_start_matches("./");
        match kind {
            EntryType::Directory => Ok(()),
            _ if name.is_empty() || name.ends_with('/') => Ok(()),
            _ if is_hidden(name) => file(Found::Skipped(Skipped::by_name(name))),
            kind if kind.is_file() => file(Found::File(name, &mut content)),
            EntryType::Symlink | EntryType::Link => {
                file(Found::Skipped(Skipped::new(name, format!("{OTHER}: a link"))))
            }
            _ => file(Found::Skipped(Skipped::new(name, NOT_A_FILE))),
        }
    })
}

/// The name that the files of a sample have in common, and which part of it a file is.
fn split(name: &str) -> (&str, Part) {
    let start = name.rfind('/').map_or(0, |slash| slash + 1);
    let Some(dot) = name[start..].find('.') else { return (name, Part::Other) };
    let (key, extension) = (&name[..start + dot], name[start + dot + 1..].to_ascii_lowercase());
    let part = match extension.as_str() {
        "json" => Part::Json,
        extension if CLASSES.contains(&extension) => Part::Class,
        extension if EXTENSIONS.contains(&extension.rsplit('.').next().unwrap_or_default()) => {
            Part::Image
        }
        _ => Part::Other,
    };
    (key, part)
}

impl Group {
    /// Adds a file, or returns it if it isn't used.
    fn add(
        &mut self,
        name: &str,
        part: Part,
        content: &mut dyn Read,
    ) -> io::Result<Option<Skipped>> {
        match part {
            Part::Image if self.image.is_none() => {
                self.image = Some((name.to_owned(), bounded(content, IMAGE)?));
            }
            // Further images, such as masks, aren't what the class is of.
            Part::Image => {
                let reason = format!("{NOT_CHOSEN}: a further image of its sample");
                return Ok(Some(Skipped::new(name, reason)));
            }
            Part::Class => {
                let text = bounded(content, LABEL)?;
                self.class = Some(String::from_utf8_lossy(&text).trim().to_owned());
                self.class_file = Some(name.to_owned());
            }
            Part::Json if self.class.is_none() => {
                self.class = label(&bounded(content, LABEL)?);
                self.class_file = Some(name.to_owned());
            }
            Part::Json | Part::Other => return Ok(Some(Skipped::by_name(name))),
        }
        Ok(None)
    }
}

fn bounded(content: &mut dyn Read, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    content.take(limit + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        let reason = format!("a file in it is longer than {limit} bytes");
        return Err(io::Error::new(io::ErrorKind::InvalidData, reason));
    }
    Ok(bytes)
}

/// The class in a file of metadata: a field with a usual name, or the whole file.
fn label(json: &[u8]) -> Option<String> {
    let text = |value: &Value| match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    };
    match serde_json::from_slice(json).ok()? {
        Value::Object(fields) => {
            let is_class = |name: &str| name == "cls" || is_class_column(name);
            fields.iter().filter(|(name, _)| is_class(name)).find_map(|(_, value)| text(value))
        }
        value => text(&value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tar(files: &[(&str, &[u8])]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (name, content) in files {
            let mut header = tar::Header::new_ustar();
            header.set_size(content.len() as u64);
            header.set_mode(0o644);
            builder.append_data(&mut header, name, *content).unwrap();
        }
        builder.into_inner().unwrap()
    }

    /// The samples, what isn't used, and whether the archive is recognized.
    fn samples(bytes: &[u8]) -> Result<(Vec<WebSample>, Vec<String>, bool), DataError> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        let mut found = Vec::new();
        let skipped = read(file.path(), "x.tar", &CancellationToken::new(), |sample| {
            found.push(sample);
            Ok(())
        })?;
        let skipped = skipped.into_iter().map(|one| format!("{} {}", one.path, one.reason));
        Ok((found, skipped.collect(), is_web_dataset(file.path())))
    }

    #[test]
    fn files_of_equal_names_are_a_sample() {
        let bytes = tar(&[
            ("a/1.2.jpg", b"one"),
            ("a/2.jpg", b"two"),
            ("a/2.seg.png", b"mask"),
            ("a/2.cls", b"7\n"),
            ("b/2.PNG", b"three"),
            ("b/2.json", br#"{"width": 3, "label": "cat"}"#),
            ("b/3.json", b"4"),
            ("._b/4.jpg", b"x"),
            ("./b/5.webp", b"five"),
            ("b/5.json", b"[]"),
            ("b/5.txt", b"a caption"),
            ("readme", b"x"),
        ]);
        let (found, skipped, is_web) = samples(&bytes).unwrap();
        let shown: Vec<(&str, &[u8], Option<&str>)> = found
            .iter()
            .map(|one| (one.path.as_str(), &one.image[..], one.class.as_deref()))
            .collect();
        assert_eq!(
            shown,
            [
                ("a/1.2.jpg", &b"one"[..], None),
                ("a/2.jpg", b"two", Some("7")),
                ("b/2.PNG", b"three", Some("cat")),
                ("b/5.webp", b"five", None)
            ]
        );
        assert_eq!(
            skipped,
            [
                "a/2.seg.png not chosen: a further image of its sample",
                "._b/ hidden",
                "b/3.json not an image: no image has its name",
                "b/5.txt not an image",
                "readme not an image",
            ]
        );
        assert!(is_web);
        assert!(!samples(&tar(&[("cat/1.jpg", b"x"), ("cat/2.jpg", b"y")])).unwrap().2);
    }

    #[test]
    fn truncated_archives_are_errors() {
        let bytes = tar(&[("1.jpg", &[7; 700]), ("1.cls", b"3"), ("2.jpg", &[8; 700])]);
        for length in (0..bytes.len() - 1024).step_by(100) {
            let (found, ..) = match samples(&bytes[..length]) {
                Ok(found) => found,
                Err(_) => continue,
            };
            // Only where an archive may end: behind an entry.
            assert!(length % 512 == 0 || found.is_empty(), "{length}");
        }
        assert!(samples(b"PK\x03\x04").is_err() && samples(b"").is_err());
    }

    #[test]
    fn an_archive_that_expands_to_too_much_is_refused() {
        let mut header = tar::Header::new_ustar();
        header.set_size(1 << 30);
        header.set_mode(0o644);
        let mut builder = tar::Builder::new(Vec::new());
        builder.append_data(&mut header, "1.bin", &b""[..]).unwrap();
        let error = samples(&builder.into_inner().unwrap()).unwrap_err().to_string();
        assert!(error.starts_with("x.tar expands to more than "), "{error}");
    }
}
