//! Hostile files, each named for what is wrong with it: every one is read or refused with a reason,
//! none panics. The snapshot lists what becomes of each.
//!
//! `PIPE_HOSTILE=FOLDER cargo test --lib hostile` also writes the files and what they decode to
//! (`NAME.ppm`: damaged ones kept, transparency ignored as Pillow does), for
//! `tests/hostile.py`, which compares with Pillow.

mod files;

pub(super) use files::all;

use super::{Background, DecodeOptions, OnDamaged, decode};
use crate::data::DataError;
use std::fmt::Write as _;
use std::path::Path;

fn reason(error: &DataError) -> String {
    match error {
        DataError::Unreadable(reason) => reason.clone(),
        other => panic!("{other}"),
    }
}

#[test]
fn every_hostile_file_is_read_or_refused_by_name() {
    let files = files::all();
    assert!(files.len() >= 80, "{}", files.len());
    let mut table = String::new();
    for (name, bytes) in &files {
        let outcome = match decode(bytes, DecodeOptions::default()) {
            Ok(full) => {
                let (width, height) = (full.pixels.width, full.pixels.height);
                let warning = full.notes.warning().map_or(String::new(), |one| format!(": {one}"));
                let words = full.notes.words();
                format!("read {} {width}x{height} [{words}]{warning}", full.format)
            }
            Err(error) => {
                let reason = reason(&error);
                assert!(reason.len() > 10, "{name}: {reason}");
                assert!(!reason.contains("panicked"), "{name}: {reason}");
                format!("refused: {reason}")
            }
        };
        writeln!(table, "{name}: {outcome}").unwrap();
        if let Some(folder) = std::env::var_os("PIPE_HOSTILE") {
            write(Path::new(&folder), name, bytes);
        }
    }
    insta::assert_snapshot!(table);
}

/// Writes a file and what it decodes to.
fn write(folder: &Path, name: &str, bytes: &[u8]) {
    std::fs::write(folder.join(name), bytes).unwrap();
    let options = DecodeOptions { background: Background(None), on_damaged: OnDamaged::Keep };
    let text = match decode(bytes, options) {
        Ok(full) => {
            let kind = if full.pixels.channels == 1 { "P5" } else { "P6" };
            let mut ppm =
                format!("{kind} {} {} 255\n", full.pixels.width, full.pixels.height).into_bytes();
            ppm.extend(full.pixels.bytes);
            std::fs::write(folder.join(format!("{name}.ppm")), ppm).unwrap();
            full.notes.words()
        }
        Err(error) => format!("refused: {}", reason(&error)),
    };
    std::fs::write(folder.join(format!("{name}.outcome")), text).unwrap();
}
