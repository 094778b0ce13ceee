//! A tensor cache of any content whose digests are right: the header, the index and the table of samples behind them.
//!
//! The input is cut into four parts at the first three bytes `0xff`, which end the header, the records with their index, and the
//! rows of `samples.tsv`; the rest is `input.json`.

#![no_main]

use libfuzzer_sys::fuzz_target;
use pipe::fuzzing::{Digest, TensorCache};
use std::cell::LazyCell;
use std::path::Path;
use tempfile::TempDir;

/// Bytes of the header of `records.bin`, and how many of them its digest covers.
const HEADER: usize = 4096;
const SIGNED: usize = 96;
/// Bytes of an entry of the index, in the two versions of the format.
const ENTRY: [usize; 2] = [80, 96];

thread_local! {
    static FOLDER: LazyCell<TempDir> = LazyCell::new(|| tempfile::tempdir().expect("a temporary folder"));
}

/// `records.bin` with the fields of `fields` (side, count and so on), its digests corrected.
fn records(fields: &[u8], body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; HEADER];
    let length = fields.len().min(SIGNED - 8);
    bytes[..8].copy_from_slice(b"pipe rec");
    bytes[8..8 + length].copy_from_slice(&fields[..length]);
    let count = bytes[24..32].try_into().map_or(0, u64::from_le_bytes);
    let entry = if bytes[8] == 2 { ENTRY[1] } else { ENTRY[0] };
    let index = usize::try_from(count).ok().and_then(|count| count.checked_mul(entry));
    let start = index.and_then(|index| body.len().checked_sub(index)).unwrap_or(0);
    bytes[64..96].copy_from_slice(Digest::of(&body[start..]).as_bytes());
    let digest = Digest::of(&bytes[..SIGNED]);
    bytes[SIGNED..SIGNED + 32].copy_from_slice(digest.as_bytes());
    bytes.extend_from_slice(body);
    bytes
}

/// `samples.tsv` with these rows.
fn samples(rows: &[u8]) -> Vec<u8> {
    let count = rows.iter().filter(|&&byte| byte == b'\n').count();
    let mut bytes = format!("# pipe samples 1 rows={count} sha256={}\n", Digest::of(rows)).into_bytes();
    bytes.extend_from_slice(rows);
    bytes
}

fn write(folder: &Path, name: &str, bytes: &[u8]) {
    std::fs::write(folder.join(name), bytes).expect("the temporary folder is writable");
}

fuzz_target!(|bytes: &[u8]| {
    let mut parts = bytes.splitn(4, |&byte| byte == 0xff);
    let mut part = || parts.next().unwrap_or_default();
    let (fields, body, rows, input) = (part(), part(), part(), part());
    FOLDER.with(|folder| {
        let folder = folder.path();
        write(folder, "records.bin", &records(fields, body));
        write(folder, "samples.tsv", &samples(rows));
        write(folder, "input.json", input);
        let Ok(cache) = TensorCache::open(folder) else { return };
        for sample in cache.samples() {
            let _ = cache.record(sample.record);
        }
    });
});
