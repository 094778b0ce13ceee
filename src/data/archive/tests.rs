//! Archives cut off anywhere: an error or a warning, never a panic and never fewer images without a
//! word.

use super::unpack;
use crate::events::{CancellationToken, EventSink};
use std::io::{Cursor, Write};
use std::path::Path;
use zip::write::{SimpleFileOptions, ZipWriter};

fn content(index: u8) -> Vec<u8> {
    (0..700u32).map(|at| (at * u32::from(index + 3)) as u8).collect()
}

fn zip() -> Vec<u8> {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    for index in 0..3 {
        writer.start_file(format!("a/{index}.png"), SimpleFileOptions::default()).unwrap();
        writer.write_all(&content(index)).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

fn tar() -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for index in 0..3 {
        let mut header = tar::Header::new_ustar();
        header.set_size(700);
        header.set_mode(0o644);
        builder
            .append_data(&mut header, format!("a/{index}.png"), content(index).as_slice())
            .unwrap();
    }
    builder.into_inner().unwrap()
}

fn gz(bytes: &[u8]) -> Vec<u8> {
    let mut writer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    writer.write_all(bytes).unwrap();
    writer.finish().unwrap()
}

fn unpacked(bytes: &[u8], into: &Path) -> Result<super::Unpacked, super::super::DataError> {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), bytes).unwrap();
    unpack(file.path(), "x", into, &EventSink::silent(), &CancellationToken::new())
}

#[test]
fn truncated_archives_are_noticed() {
    let zst =
        ruzstd::encoding::compress_to_vec(&tar()[..], ruzstd::encoding::CompressionLevel::Fastest);
    for (whole, step) in [(zip(), 13), (tar(), 61), (gz(&tar()), 11), (zst, 11)] {
        for length in (0..whole.len()).step_by(step).chain([whole.len()]) {
            let folder = tempfile::tempdir().unwrap();
            match unpacked(&whole[..length], folder.path()) {
                Ok(found) if length == whole.len() => {
                    assert_eq!(found.images, ["a/0.png", "a/1.png", "a/2.png"]);
                    assert!(found.warnings.is_empty(), "{:?}", found.warnings);
                    let last = std::fs::read(folder.path().join("a/2.png")).unwrap();
                    assert_eq!(last, content(2));
                }
                Ok(found) => assert!(
                    !found.warnings.is_empty() || found.images.len() == 3,
                    "{length} of {}",
                    whole.len()
                ),
                Err(error) => assert!(length < whole.len(), "{error}"),
            }
        }
    }
}

/// A changed byte is found by a checksum, where the format has one.
#[test]
fn changed_archives_are_noticed() {
    for whole in [zip(), gz(&tar())] {
        for at in (0..whole.len()).step_by(17) {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x55;
            let folder = tempfile::tempdir().unwrap();
            if let Ok(found) = unpacked(&bytes, folder.path()) {
                for path in &found.images {
                    let index = path.trim_end_matches(".png").chars().next_back().unwrap();
                    let read = std::fs::read(folder.path().join(path)).unwrap();
                    let known = index.to_digit(10).map(|index| content(index as u8));
                    assert!(known.is_none_or(|known| known == read), "{path}, changed at {at}");
                }
            }
        }
    }
}

#[test]
fn cancellation_stops_between_entries() {
    let (file, folder) = (tempfile::NamedTempFile::new().unwrap(), tempfile::tempdir().unwrap());
    std::fs::write(file.path(), zip()).unwrap();
    let cancel = CancellationToken::new();
    cancel.cancel();
    let stopped = unpack(file.path(), "x", folder.path(), &EventSink::silent(), &cancel);
    assert!(matches!(stopped, Err(crate::data::DataError::Cancelled)));
}
