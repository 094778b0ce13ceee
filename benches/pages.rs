//! Time and size of the page of a run with 20,000 test images, of 10, 100 and 1,000 classes, with
//! photo-like images of 224 x 224 pixels in the tensor cache.
//!
//! `cargo bench --bench pages [-- FOLDER]`: writes the pages to FOLDER, to be looked at.

#![allow(clippy::print_stdout, reason = "prints its measurements")]

#[path = "../tests/report/case.rs"]
mod case;
mod photos;

use case::Case;
use pipe::report::page;
use pipe::runs::Results;
use pipe::store::Store;
use std::error::Error;
use std::path::PathBuf;
use std::time::Instant;

const IMAGES: usize = 20_000;
/// Side of the stored squares, in pixels.
const SIDE: u32 = 224;
/// Different images, which the test images repeat.
const DRAWN: u64 = 48;

fn main() -> Result<(), Box<dyn Error>> {
    let kept = std::env::args().skip(1).find(|argument| !argument.starts_with('-'));
    let folder = tempfile::tempdir()?;
    let source = folder.path().join("source");
    std::fs::create_dir(&source)?;
    photos::draw(&source, DRAWN)?;
    for count in [10, 100, 1000] {
        let classes = (0..count).map(|class| format!("class number {class}")).collect();
        let case = Case { classes, images: IMAGES, ..Case::default() };
        let store = Store::open(&folder.path().join(count.to_string()))?;
        let record = case::stored(&case, &store, &source, SIDE);
        let start = Instant::now();
        let html = page(&[Results::of(&record).with_store(&store)], None);
        println!(
            "{IMAGES} images of {count:4} classes: {:.2} s, {:.1} MB, {} thumbnails",
            start.elapsed().as_secs_f64(),
            html.len() as f64 / 1e6,
            html.matches("<img").count(),
        );
        if let Some(kept) = &kept {
            std::fs::write(PathBuf::from(kept).join(format!("{count}.html")), html)?;
        }
    }
    Ok(())
}
