//! Many small image files of one length, for benchmarks that don't look at pixels.

use image::{ImageFormat, Rgb, RgbImage};
use std::io::Cursor;
use std::path::Path;

/// The folders, which are the classes.
const CLASSES: usize = 2;

/// Writes `count` PNG files of one pixel, all different, each padded to `bytes`.
pub(crate) fn write(folder: &Path, count: usize, bytes: usize) {
    for class in 0..CLASSES {
        std::fs::create_dir_all(folder.join(class.to_string())).expect("a folder");
    }
    for index in 0..count {
        let [.., high, middle, low] = (index as u32).to_be_bytes();
        let image = RgbImage::from_pixel(1, 1, Rgb([high, middle, low]));
        let mut file = Cursor::new(Vec::new());
        image.write_to(&mut file, ImageFormat::Png).expect("PNG can be written to memory");
        let mut file = file.into_inner();
        file.resize(bytes, 0);
        let path = folder.join((index % CLASSES).to_string()).join(format!("{index}.png"));
        std::fs::write(path, file).expect("a file can be written");
    }
}
