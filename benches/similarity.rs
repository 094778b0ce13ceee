//! Time of the search for near duplicates: sketches of stored squares, one thread, and the pairs of
//! 20,000 and of 62,000 images, all threads; and of the glance that `explore` takes at an image.
//! Compared with the time of decoding and resizing an image, one thread.
//!
//! `cargo bench --bench similarity`

#![allow(clippy::print_stdout, reason = "prints its measurements")]

mod photos;
mod squares;

use pipe::data::decode::{self, DecodeOptions};
use pipe::data::similarity::{SIDE, Sketch, Thumbnail, pairs};
use pipe::random::Stream;
use std::error::Error;
use std::hint::black_box;
use std::time::Instant;

const DRAWN: u64 = 40;

fn main() -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    photos::draw(folder.path(), DRAWN)?;
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder.path())? {
        files.push(std::fs::read(entry?.path())?);
    }
    let preprocessing = squares::preprocessing();
    let each = |start: Instant| start.elapsed().as_secs_f64() * 1e3 / files.len() as f64;
    let start = Instant::now();
    let squares: Vec<Vec<u8>> = files
        .iter()
        .map(|file| Ok(decode::preprocess(file, &preprocessing)?.pixels))
        .collect::<Result<_, Box<dyn Error>>>()?;
    let decoding = each(start);
    println!("decode and resize {decoding:8.3} ms an image");
    let start = Instant::now();
    for file in &files {
        decode::glance(file, DecodeOptions::default())?;
    }
    let glancing = each(start);
    println!("glance            {glancing:8.3} ms, {:.2} of that", glancing / decoding);
    let start = Instant::now();
    for square in &squares {
        black_box(Sketch::of(&Thumbnail::of_square(square, squares::SIDE)?));
    }
    let sketching = each(start);
    println!("sketch            {sketching:8.3} ms, {:.2} of that", sketching / decoding);
    for count in [20_000, 62_000] {
        let thumbnails: Vec<Thumbnail> =
            (0..count).map(thumbnail).collect::<Result<_, Box<dyn Error>>>()?;
        let sketches: Vec<Sketch> = thumbnails.iter().map(Sketch::of).collect();
        let start = Instant::now();
        let sketch = |at: usize| Ok(Some(sketches[at]));
        let found = pairs(thumbnails.len(), sketch, |_, _| true, |at| Ok(thumbnails[at].clone()))?;
        let seconds = start.elapsed().as_secs_f64();
        println!(
            "pairs of {count} images: {} in {seconds:.2} s, {:.2} of decoding them on one thread",
            found.len(),
            seconds * 1e3 / (decoding * f64::from(count))
        );
    }
    Ok(())
}

/// Smooth colors on white, one of 100 images a copy of the one before.
fn thumbnail(number: u32) -> Result<Thumbnail, Box<dyn Error>> {
    let number = if number % 100 == 99 { number - 1 } else { number };
    let mut stream = Stream::new(9, "thumbnail", &[u64::from(number)]);
    let mut waves = || std::array::from_fn(|_| stream.between(0.5, 6.0));
    let waves: [[f64; 3]; 3] = [waves(), waves(), waves()];
    let levels = (0..SIDE * SIDE * 3).map(|at| {
        let (x, y, [a, b, c]) =
            ((at / 3 % SIDE) as f64 / 32.0, (at / 3 / SIDE) as f64 / 32.0, waves[at % 3]);
        let is_white = (x - 0.5).hypot(y - 0.5) > 0.4;
        if is_white { 255 } else { (128.0 + 90.0 * (a * x + c).sin() * (b * y - c).cos()) as u8 }
    });
    Ok(Thumbnail::of_square(&levels.collect::<Vec<u8>>(), SIDE as u32)?)
}
