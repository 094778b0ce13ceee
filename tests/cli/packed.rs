//! Files in memory, and archives of them.

use std::io::{Cursor, Write};
use zip::write::{SimpleFileOptions, ZipWriter};

/// Files by path.
pub(crate) type Files = Vec<(String, Vec<u8>)>;

pub(crate) fn zip(files: &Files) -> Vec<u8> {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    for (path, content) in files {
        writer.start_file(path.as_str(), SimpleFileOptions::default()).unwrap();
        writer.write_all(content).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

/// A header for any name, also such as `tar` refuses to write.
pub(crate) fn tar_header(name: &[u8], kind: tar::EntryType, size: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.as_mut_bytes()[..name.len()].copy_from_slice(name);
    header.set_entry_type(kind);
    header.set_mode(0o644);
    header.set_size(size);
    header.set_cksum();
    header
}

pub(crate) fn tar(files: &Files) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (path, content) in files {
        let header = tar_header(path.as_bytes(), tar::EntryType::Regular, content.len() as u64);
        builder.append(&header, content.as_slice()).unwrap();
    }
    builder.into_inner().unwrap()
}
