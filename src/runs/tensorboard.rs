//! TensorBoard event files: the scalars of a stage, appended while the run is going on. A file is a
//! sequence of records (TFRecord), each a protobuf message `Event`; `doc/formats.md` has the fields.

use super::{RunsError, results};
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// The file's name; TensorBoard reads files whose names contain `tfevents`.
pub(super) const FILE: &str = "events.out.tfevents.pipe";

/// The event file of one stage.
pub(super) struct EventFile {
    path: PathBuf,
    file: File,
}

impl EventFile {
    /// Begins the file among the results of a stage, in the folder of its run.
    pub(super) fn create(folder: &Path, stage: &str) -> Result<EventFile, RunsError> {
        let results = results::results_folder(folder, stage);
        fs::create_dir_all(&results).map_err(|error| RunsError::io("create", &results, error))?;
        let path = results.join(FILE);
        let file = File::create(&path).map_err(|error| RunsError::io("create", &path, error))?;
        let mut events = EventFile { path, file };
        events.append(&version(now()))?;
        Ok(events)
    }

    /// Appends one value.
    pub(super) fn add(&mut self, tag: &str, step: u64, value: f64) -> Result<(), RunsError> {
        self.append(&scalar(now(), tag, step, value))
    }

    pub(super) fn sync(&self) -> Result<(), RunsError> {
        self.file.sync_all().map_err(|error| RunsError::io("sync", &self.path, error))
    }

    /// Appends a record in one piece, for readers that are following the file.
    fn append(&mut self, event: &[u8]) -> Result<(), RunsError> {
        let written = self.file.write_all(&record(event));
        written.map_err(|error| RunsError::io("write", &self.path, error))
    }
}

/// Seconds since the start of 1970.
fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

/// A TFRecord: length, its checksum, the data, their checksum; little-endian.
fn record(data: &[u8]) -> Vec<u8> {
    let length = (data.len() as u64).to_le_bytes();
    let (of_length, of_data) = (masked(&length).to_le_bytes(), masked(data).to_le_bytes());
    [&length[..], &of_length, data, &of_data].concat()
}

/// The masked CRC-32C of TFRecord: a checksum of data that contain checksums would be weak.
fn masked(data: &[u8]) -> u32 {
    crc32c::crc32c(data).rotate_right(15).wrapping_add(0xa282_ead8)
}

/// The first `Event`: `wall_time`, `file_version`.
fn version(time: f64) -> Vec<u8> {
    let mut event = double(1, time);
    event.extend(bytes(3, b"brain.Event:2"));
    event
}

/// An `Event` with one scalar: `wall_time`, `step`, and a `Summary` of one `Value` with `tag` and
/// `simple_value`.
fn scalar(time: f64, tag: &str, step: u64, value: f64) -> Vec<u8> {
    let mut one = bytes(1, tag.as_bytes());
    one.push(2 << 3 | 5);
    one.extend((value as f32).to_le_bytes());
    let mut event = double(1, time);
    event.push(2 << 3);
    event.extend(varint(step));
    event.extend(bytes(5, &bytes(1, &one)));
    event
}

/// A protobuf field of type double.
fn double(field: u8, value: f64) -> Vec<u8> {
    [&[field << 3 | 1][..], &value.to_le_bytes()].concat()
}

/// A protobuf field of type string, bytes or message.
fn bytes(field: u8, value: &[u8]) -> Vec<u8> {
    [&[field << 3 | 2][..], &varint(value.len() as u64), value].concat()
}

/// A protobuf integer: 7 bits per byte, the lowest first.
fn varint(mut value: u64) -> Vec<u8> {
    let mut text = Vec::new();
    while value > 0x7f {
        text.push(value as u8 & 0x7f | 0x80);
        value >>= 7;
    }
    text.push(value as u8);
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A reader of its own: the data of each record, whose checksums must be right.
    fn records(mut file: &[u8]) -> Vec<&[u8]> {
        let mut found = Vec::new();
        while !file.is_empty() {
            let number = |at: usize| u32::from_le_bytes(file[at..at + 4].try_into().unwrap());
            let length = u64::from_le_bytes(file[..8].try_into().unwrap()) as usize;
            assert_eq!(number(8), masked(&file[..8]));
            assert_eq!(number(12 + length), masked(&file[12..12 + length]));
            found.push(&file[12..12 + length]);
            file = &file[16 + length..];
        }
        found
    }

    /// Reads a varint at the start of `data`.
    fn read_varint(data: &mut &[u8]) -> u64 {
        let length = data.iter().position(|byte| byte & 0x80 == 0).unwrap() + 1;
        let (digits, rest) = data.split_at(length);
        *data = rest;
        digits.iter().rev().fold(0, |value, digit| value << 7 | u64::from(digit & 0x7f))
    }

    /// The fields of a message: (number, content), numbers as their bytes.
    fn fields(mut data: &[u8]) -> Vec<(u64, Vec<u8>)> {
        let mut found = Vec::new();
        while !data.is_empty() {
            let key = read_varint(&mut data);
            let length = match key & 7 {
                0 => {
                    found.push((key >> 3, read_varint(&mut data).to_le_bytes().to_vec()));
                    continue;
                }
                1 => 8,
                5 => 4,
                2 => read_varint(&mut data) as usize,
                other => panic!("wire type {other}"),
            };
            found.push((key >> 3, data[..length].to_vec()));
            data = &data[length..];
        }
        found
    }

    /// As every event file of TensorFlow begins: 24 bytes follow.
    #[test]
    fn a_file_begins_as_tensorflow_s_does() {
        let record = record(&version(1.5));
        let start = [24, 0, 0, 0, 0, 0, 0, 0, 0xa3, 0x7f, 0x4b, 0x22, 9];
        assert_eq!(record[..13], start);
        assert_eq!(record[13..21], 1.5f64.to_le_bytes());
        assert_eq!(&record[21..36], b"\x1a\x0dbrain.Event:2");
    }

    proptest! {
        #[test]
        fn scalars_read_back(scalars in prop::collection::vec((".{0,200}", any::<u64>(), any::<f32>()), 0..6)) {
            let folder = tempfile::tempdir().unwrap();
            let mut events = EventFile::create(folder.path(), "a/b").unwrap();
            for (tag, step, value) in &scalars {
                events.add(tag, *step, f64::from(*value)).unwrap();
            }
            let file = fs::read(folder.path().join("results/a%2fb").join(FILE)).unwrap();
            let found = records(&file);
            prop_assert_eq!(found.len(), scalars.len() + 1);
            for (event, (tag, step, value)) in found[1..].iter().zip(&scalars) {
                let event = fields(event);
                prop_assert_eq!(event.iter().map(|(field, _)| *field).collect::<Vec<_>>(), [1, 2, 5]);
                prop_assert_eq!(&event[1].1, &step.to_le_bytes());
                let value_fields = fields(&fields(&event[2].1)[0].1);
                prop_assert_eq!(&value_fields[0], &(1, tag.as_bytes().to_vec()));
                prop_assert_eq!(&value_fields[1], &(2, value.to_le_bytes().to_vec()));
            }
        }
    }
}
