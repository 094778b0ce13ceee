//! Memory: copies and their bounds, limits, and compiled kernels kept in a folder.

#![expect(unsafe_code, reason = "misuses the driver on purpose")]

use std::{env, fs, path::PathBuf};

use cudarc::driver::result;

use super::*;

pub(super) const SCENARIOS: &[Scenario] = &[
    ("copies", copies),
    ("out of range", out_of_range),
    ("memory limit", memory_limit),
    ("upload", upload),
    ("cache", cache),
    ("freed twice", || misuse(Misuse::FreedTwice)),
    ("used after free", || misuse(Misuse::UsedAfterFree)),
    ("too long", || misuse(Misuse::TooLong)),
    ("unknown stream", || misuse(Misuse::UnknownStream)),
];

fn copies() -> Outcome {
    let card = Card::open(0)?;
    let stream = card.compute();
    let (a, b) = (card.zeros::<i32>(10)?, card.zeros::<i32>(10)?);
    a.write(stream, 2, &[1, 2, 3])?;
    a.copy(stream, 2..5, &b, 7)?;
    b.clear_range(stream, 8..9)?;
    let mut host = [9; 10];
    b.read(stream, 0, &mut host)?;
    let nothing = card.zeros::<f64>(0)?;
    nothing.write(stream, 0, &[])?;
    nothing.clear(stream)?;
    Ok(format!("{host:?}"))
}

fn out_of_range() -> Outcome {
    let card = Card::open(0)?;
    let buffer = card.zeros::<u16>(10)?;
    let mut two = [0, 0];
    let errors = [
        buffer.write(card.copy(), 9, &two),
        buffer.read(card.copy(), usize::MAX, &mut two),
        buffer.copy(card.copy(), 0..11, &buffer, 0),
        buffer.copy(card.copy(), 0..2, &buffer, 9),
    ];
    let texts: Vec<String> =
        errors.into_iter().filter_map(|e| e.err().map(|e| e.to_string())).collect();
    Ok(texts.join("\n"))
}

/// A million bytes: all of it can be had, again after it was freed, and no byte more.
fn memory_limit() -> Outcome {
    let card = Card::open(0)?;
    for _ in 0..2 {
        let all = card.allocate::<u8>(1_000_000)?;
        assert_eq!(card.memory()?, (0, 1_000_000));
        drop(all);
    }
    let half = card.allocate::<f32>(125_000)?;
    let error = card.allocate::<f32>(125_001).map(drop);
    drop(half);
    error.map(|()| "allocated".to_owned())
}

fn upload() -> Outcome {
    let card = Card::open(0)?;
    let to = card.zeros::<u8>(4)?;
    let mut pinned = card.pinned(8)?;
    pinned.as_mut_slice().copy_from_slice(&[1, 2, 3, 4, 5, 6, 7, 8]);
    let upload = Upload::start(card.copy(), pinned, 3, &to, card.event()?)?;
    let (pinned, arrived) = upload.finish()?;
    let mut host = [0; 4];
    to.read(card.compute(), 0, &mut host)?;
    let error = Upload::start(card.copy(), pinned, 5, &to, arrived).map(drop).unwrap_err();
    // Dropped at once: waits for its copy before the memory is freed.
    drop(Upload::start(card.copy(), card.pinned(4)?, 4, &to, card.event()?)?);
    Ok(format!("{host:?}; {error}"))
}

/// Compiled for the first load only, again for another source, and again where the file is damaged.
fn cache() -> Outcome {
    let folder = PathBuf::from(env::var_os("FAKE_NVRTC_LOG").unwrap());
    let folder = folder.with_file_name("kernels");
    let card = Card::open(0)?;
    let kept = FolderCache(folder.clone());
    let other = Source { text: "__global__ void other();", ..SOURCE };
    for source in [SOURCE, SOURCE, other, other] {
        Module::load(&card, source, &kept)?;
    }
    let files: Vec<PathBuf> = fs::read_dir(&folder).unwrap().map(|f| f.unwrap().path()).collect();
    for file in &files {
        let mut bytes = fs::read(file).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(file, bytes).unwrap();
    }
    for source in [SOURCE, SOURCE] {
        Module::load(&card, source, &kept)?;
    }
    let log = fs::read_to_string(env::var_os("FAKE_NVRTC_LOG").unwrap()).unwrap();
    Ok(format!("{} files, {} compilations", files.len(), log.lines().count()))
}

enum Misuse {
    FreedTwice,
    UsedAfterFree,
    TooLong,
    UnknownStream,
}

/// What our types prevent, done through the bindings.
fn misuse(what: Misuse) -> Outcome {
    let card = Card::open(0)?;
    let stream = card.compute().raw();
    // SAFETY: none: the fake driver ends the process.
    unsafe {
        let address = result::malloc_sync(1000).unwrap();
        let _ = match what {
            Misuse::FreedTwice => result::free_sync(address).and(result::free_sync(address)),
            Misuse::UsedAfterFree => {
                result::free_sync(address).and(result::memset_d8_async(address + 10, 0, 10, stream))
            }
            Misuse::TooLong => result::memset_d8_async(address + 990, 0, 11, stream),
            Misuse::UnknownStream => {
                let none = std::ptr::without_provenance_mut(1000);
                result::memset_d8_async(address, 0, 11, none)
            }
        };
    }
    Ok("nothing was noticed".to_owned())
}

#[test]
fn the_fake_driver_notices_wrong_use() {
    for (scenario, sentence) in [
        ("freed twice", "is freed twice"),
        ("used after free", "has been freed"),
        ("too long", "11 bytes from offset 990 of device memory of 1000 bytes"),
        ("unknown stream", "unknown or destroyed stream"),
    ] {
        let Some(report) = Case::new(scenario).run() else { return };
        assert!(report.starts_with("signal: 6"), "{report}");
        assert!(report.contains("fake CUDA driver: ") && report.contains(sentence), "{report}");
    }
}

#[test]
fn bytes_come_back_as_they_were_copied() {
    Case::new("copies").reports("[0, 0, 0, 0, 0, 0, 0, 1, 0, 3]");
    Case::new("upload")
        .reports("[1, 2, 3, 0]; copying to the GPU: elements 0 to 5 of a buffer of 4");
}

#[test]
fn copies_outside_of_a_buffer_are_refused() {
    Case::new("out of range").reports(
        "writing: elements 9 to 11 of a buffer of 10\n\
         reading: elements 18446744073709551615 to 18446744073709551615 of a buffer of 10\n\
         copying: elements 0 to 11 of a buffer of 10\n\
         copying: elements 9 to 11 of a buffer of 10",
    );
}

#[test]
fn the_end_of_memory() {
    Case::new("memory limit").set("FAKE_CUDA_MEMORY", 1_000_000).reports(
        "error: out of GPU memory: 500,004 bytes wanted, 500,000 free of 1,000,000\n\
         help: use a smaller batch size, or stop other programs that use the GPU",
    );
}

#[test]
fn kernels_are_compiled_once() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    Case::new("cache").set("FAKE_NVRTC_LOG", log.display()).reports("2 files, 3 compilations");
}
