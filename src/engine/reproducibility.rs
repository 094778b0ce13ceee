//! Compares an output with an earlier one of the same key: on the same kind of machine they must be
//! equal. Names the first file that differs, and where.

use super::Acceptance;
use crate::common::machine;
use crate::events::StageEvent;
use crate::store::{Artifact, Build, Digest, Store, StoreError, digest_file};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

/// Bytes that are compared at a time.
const CHUNK: usize = 64 << 10;
/// Characters of a line in a message.
const SHOWN: usize = 40;
/// The longest header of a safetensors file that is read.
const MAX_HEADER: u64 = 16 << 20;

/// The build to compare with, before its entry is replaced. None if there is none: an output that the
/// user vouched for was made by another key.
pub(super) fn last_build(store: &Store, key: &Digest) -> Result<Option<Build>, StoreError> {
    match Acceptance::recorded(store, key)? {
        Some(_) => Ok(None),
        None => store.last_build(key),
    }
}

/// The event that says how `now` differs from the earlier build. None if it doesn't, or if another
/// kind of machine made that.
pub(super) fn compare(earlier: &Build, now: &Artifact, store: &Store) -> Option<StageEvent> {
    let is_same_kind = earlier.machine.as_ref().is_none_or(|kind| *kind == machine::kind());
    if earlier.artifact == now.digest || !is_same_kind {
        return None;
    }
    let (file, difference) = match store.remains(&earlier.artifact) {
        Some(before) => first_difference(&before, now)?,
        None => {
            let difference = "differs; the earlier files are no longer in the store";
            ("manifest.json".to_owned(), difference.to_owned())
        }
    };
    let earlier = earlier.artifact.to_string();
    Some(StageEvent::NotReproducible { file, difference, earlier })
}

/// The first file, by name, that differs between two artifacts, and how.
fn first_difference(before: &Artifact, now: &Artifact) -> Option<(String, String)> {
    let digests = |artifact: &Artifact| -> BTreeMap<String, Digest> {
        let files = artifact.manifest.files.iter();
        files.map(|file| (file.path.clone(), file.digest)).collect()
    };
    let (old, new) = (digests(before), digests(now));
    let name =
        old.keys().chain(new.keys()).filter(|name| old.get(*name) != new.get(*name)).min()?;
    let difference = match (old.get(name), new.get(name)) {
        (None, _) => "is new".to_owned(),
        (_, None) => "is missing".to_owned(),
        (Some(digest), Some(_)) => {
            let path = before.file(name);
            // What was put aside may itself have changed since.
            let is_whole = digest_file(&path).is_ok_and(|found| found == *digest);
            let place = is_whole.then(|| place(&path, &now.file(name))).flatten();
            place.unwrap_or_else(|| "differs".to_owned())
        }
    };
    Some((name.clone(), difference))
}

/// Where two files differ first: by tensor, line or byte. None if they can't be read.
fn place(before: &Path, now: &Path) -> Option<String> {
    let offset = first_differing_byte(before, now)?;
    if before.extension().is_some_and(|extension| extension == "safetensors")
        && let Some(tensor) = tensor_at(before, offset)
    {
        return Some(format!("differs in the tensor `{tensor}`, from byte {offset} on"));
    }
    match (line_at(before, offset), line_at(now, offset)) {
        (Some((number, old)), Some((_, new))) => {
            Some(format!("differs from line {number} on: `{old}` became `{new}`"))
        }
        _ => Some(format!("differs from byte {offset} on")),
    }
}

/// The offset of the first byte that differs, which may be the end of one of them.
fn first_differing_byte(before: &Path, now: &Path) -> Option<u64> {
    let [mut before, mut now] = [File::open(before).ok()?, File::open(now).ok()?];
    let [mut old, mut new] = [vec![0; CHUNK], vec![0; CHUNK]];
    let mut offset = 0;
    loop {
        let (old, new) = (fill(&mut before, &mut old)?, fill(&mut now, &mut new)?);
        if let Some(at) = old.iter().zip(new).position(|(old, new)| old != new) {
            return Some(offset + at as u64);
        }
        if old.len() != new.len() {
            return Some(offset + old.len().min(new.len()) as u64);
        }
        if old.is_empty() {
            return None;
        }
        offset += old.len() as u64;
    }
}

/// The next bytes, as many as there are room for; fewer at the end of the file.
fn fill<'a>(file: &mut File, buffer: &'a mut [u8]) -> Option<&'a [u8]> {
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match file.read(rest) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(_) => return None,
        }
    }
    buffer.get(..filled)
}

/// The number, from 1, and the beginning of the line with this byte. None if the file isn't text up to
/// there.
fn line_at(path: &Path, offset: u64) -> Option<(u64, String)> {
    let mut number = 1;
    let mut line = Vec::new();
    let file = BufReader::with_capacity(CHUNK, File::open(path).ok()?);
    for (position, byte) in (0_u64..).zip(file.bytes()) {
        let byte = byte.ok()?;
        match byte {
            b'\n' if position >= offset => break,
            b'\n' => (number, line) = (number + 1, Vec::new()),
            b'\t' | b'\r' | b' '.. if line.len() < 4 * SHOWN => line.push(byte),
            b'\t' | b'\r' | b' '.. if position >= offset => break,
            b'\t' | b'\r' | b' '.. => {}
            _ => return None,
        }
    }
    let text = match String::from_utf8(line) {
        Ok(text) => text,
        // A character may be cut at the end.
        Err(error) if error.utf8_error().error_len().is_none() => {
            String::from_utf8_lossy(error.as_bytes()).trim_end_matches('\u{fffd}').to_owned()
        }
        Err(_) => return None,
    };
    Some((number, shortened(text.trim_end())))
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// The tensor of a safetensors file with this byte.
fn tensor_at(path: &Path, offset: u64) -> Option<String> {
    let mut file = File::open(path).ok()?;
    let mut length = [0; 8];
    file.read_exact(&mut length).ok()?;
    let length = u64::from_le_bytes(length);
    let start = length.checked_add(8)?;
    let offset = offset.checked_sub(start)?;
    if length > MAX_HEADER {
        return None;
    }
    let mut header = Vec::new();
    file.take(length).read_to_end(&mut header).ok()?;
    let header: BTreeMap<String, serde_json::Value> = serde_json::from_slice(&header).ok()?;
    let has_it = |entry: &serde_json::Value| {
        let at = |index: usize| entry.get("data_offsets")?.get(index)?.as_u64();
        at(0).is_some_and(|from| from <= offset) && at(1).is_some_and(|to| offset < to)
    };
    header.into_iter().find(|(_, entry)| has_it(entry)).map(|(name, _)| name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn place_of(name: &str, before: &[u8], now: &[u8]) -> Option<String> {
        let folder = tempfile::tempdir().unwrap();
        let paths = ["before", "now"].map(|side| folder.path().join(format!("{side}{name}")));
        std::fs::write(&paths[0], before).unwrap();
        std::fs::write(&paths[1], now).unwrap();
        place(&paths[0], &paths[1])
    }

    #[test]
    fn the_first_difference_is_named_by_line_byte_or_tensor() {
        let text = |before: &str, now: &str| place_of(".csv", before.as_bytes(), now.as_bytes());
        let of_line = |text: &str| Some(format!("differs from line {text}"));
        assert_eq!(text("a\nb\nc\n", "a\nx\nc\n"), of_line("2 on: `b` became `x`"));
        assert_eq!(text("a\n", "a\nb\n"), of_line("2 on: `` became `b`"));
        assert_eq!(text("é1\n", "é2\n"), of_line("1 on: `é1` became `é2`"));
        let long = "x".repeat(500);
        let shown = format!("{}…", "x".repeat(40));
        let expected = of_line(&format!("1 on: `{shown}` became `{shown}`"));
        assert_eq!(text(&format!("{long}1\n"), &format!("{long}2\n")), expected);
        assert_eq!(text("same", "same"), None);
        let binary = place_of(".bin", b"\0\x01\x02\x03", b"\0\x01\x09\x03");
        assert_eq!(binary.as_deref(), Some("differs from byte 2 on"));
        let header = br#"{"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"b":{"dtype":"U8","shape":[1],"data_offsets":[2,3]}}"#;
        let file = |data: &[u8]| [&(header.len() as u64).to_le_bytes()[..], header, data].concat();
        let tensor = place_of(".safetensors", &file(b"\0\0\x01"), &file(b"\0\0\x02")).unwrap();
        let offset = 8 + header.len() + 2;
        assert_eq!(tensor, format!("differs in the tensor `b`, from byte {offset} on"));
        for end in 0..8 + header.len() {
            let _ = place_of(".safetensors", &file(b"\0\0\x01")[..end], &file(b"\0\0\x02"));
        }
    }

    proptest! {
        #[test]
        fn the_offset_is_that_of_the_first_difference(
            before in proptest::collection::vec(any::<u8>(), 0..200),
            now in proptest::collection::vec(any::<u8>(), 0..200),
            shared in 0_usize..150_000,
        ) {
            let folder = tempfile::tempdir().unwrap();
            let paths = ["before", "now"].map(|name| folder.path().join(name));
            let [before, now] = [before, now].map(|end| [vec![7; shared], end].concat());
            std::fs::write(&paths[0], &before).unwrap();
            std::fs::write(&paths[1], &now).unwrap();
            let naive = (0..before.len().max(now.len())).find(|at| before.get(*at) != now.get(*at));
            let found = first_differing_byte(&paths[0], &paths[1]);
            prop_assert_eq!(found, naive.map(|at| at as u64));
        }
    }
}
