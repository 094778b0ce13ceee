//! Looks that an earlier exploration took, in the memo: an image is decoded once, however often
//! others are added to its folder.

use super::look::{Colors, Look};
use super::unusual::{Descriptor, LENGTH};
use crate::data::decode::{self, Notes, formats};
use crate::data::images::Image;
use crate::data::similarity::{SKETCH, Sketch};
use crate::store::{Digest, Memo};
use std::io::Write;

/// Bucket of the memo.
const BUCKET: &str = "looks";
/// Raised whenever another look is taken at the same file.
const VERSION: u32 = 1;
/// The most images whose looks are remembered: a hundred megabytes.
const MOST: usize = 250_000;
/// Bytes of an entry: digests of the file and of the thumbnail, width, height, notes, format and
/// whether colors follow, sketch, descriptor, colors.
const ENTRY: usize = 32 + 32 + 3 * 4 + 2 + SKETCH + LENGTH + 6 * 8;

/// Where the looks at a set of images are remembered.
pub struct Remembered<'a> {
    memo: &'a Memo,
    key: String,
}

/// Entries, sorted by the digest of the file.
#[derive(Default)]
pub(super) struct Known(Vec<u8>);

impl<'a> Remembered<'a> {
    /// The looks at the images of a set, of which the latest state is remembered.
    pub fn of(memo: &'a Memo, set: &str) -> Remembered<'a> {
        Remembered { memo, key: format!("{VERSION} {} {set}", decode::VERSION) }
    }

    pub(super) fn known(&self) -> Known {
        let bytes = self.memo.get(BUCKET, &self.key).unwrap_or_default();
        Known(if bytes.len().is_multiple_of(ENTRY) { bytes } else { Vec::new() })
    }

    /// Remembers the looks at files, which are sorted. Where that fails, they are taken again.
    pub(super) fn put(&self, files: &[&Image], looks: &[Result<Look, String>]) {
        if files.len() > MOST {
            return;
        }
        let mut bytes = Vec::with_capacity(files.len() * ENTRY);
        for (file, look) in files.iter().zip(looks) {
            if let Ok(look) = look {
                // Writing to memory doesn't fail.
                let _ = write(&mut bytes, &file.digest, look);
            }
        }
        let _ = self.memo.put(BUCKET, &self.key, &bytes);
    }
}

impl Known {
    /// The number of looks.
    pub(super) fn len(&self) -> usize {
        self.0.len() / ENTRY
    }

    /// The look at the file with this digest.
    pub(super) fn find(&self, file: &Digest) -> Option<Look> {
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = low.midpoint(high);
            let entry = &self.0[middle * ENTRY..][..ENTRY];
            match entry[..32].cmp(file.as_bytes().as_slice()) {
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
                std::cmp::Ordering::Equal => return read(&entry[32..]),
            }
        }
        None
    }
}

fn write(bytes: &mut Vec<u8>, file: &Digest, look: &Look) -> std::io::Result<()> {
    bytes.write_all(file.as_bytes())?;
    bytes.write_all(look.thumbnail.as_bytes())?;
    for word in [look.width, look.height, look.notes.0] {
        bytes.write_all(&word.to_le_bytes())?;
    }
    let format = formats().iter().position(|name| *name == look.format);
    let format = format.expect("a look has the name of a format that is decoded");
    bytes.write_all(&[format as u8, u8::from(look.colors.is_some())])?;
    bytes.write_all(look.sketch.as_bytes())?;
    bytes.write_all(&look.descriptor.0)?;
    let colors = look.colors.clone().unwrap_or_default();
    for value in colors.mean.into_iter().chain(colors.mean_square) {
        bytes.write_all(&value.to_le_bytes())?;
    }
    Ok(())
}

/// A look from its entry behind the file's digest. None if it isn't one.
fn read(entry: &[u8]) -> Option<Look> {
    let (thumbnail, entry) = entry.split_first_chunk::<32>()?;
    let (words, entry) = entry.split_first_chunk::<12>()?;
    let ([format, has_colors], entry) = entry.split_first_chunk::<2>()?;
    let (sketch, entry) = entry.split_first_chunk::<SKETCH>()?;
    let (descriptor, entry) = entry.split_first_chunk::<LENGTH>()?;
    let mut words =
        words.chunks_exact(4).filter_map(|word| Some(u32::from_le_bytes(*word.first_chunk()?)));
    let mut values =
        entry.chunks_exact(8).filter_map(|value| Some(f64::from_le_bytes(*value.first_chunk()?)));
    let mut three = || Some([values.next()?, values.next()?, values.next()?]);
    let (mean, mean_square) = (three()?, three()?);
    Some(Look {
        width: words.next()?,
        height: words.next()?,
        notes: Notes(words.next()?),
        format: formats().get(usize::from(*format))?,
        sketch: Sketch::from_bytes(*sketch),
        thumbnail: Digest::from_bytes(*thumbnail),
        descriptor: Descriptor(*descriptor),
        colors: (*has_colors == 1).then_some(Colors { mean, mean_square }),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::similarity::Thumbnail;

    fn look(number: u8) -> Look {
        let pixels = (0..32 * 32 * 3).map(|at| (at % 251) as u8 ^ number).collect();
        let thumbnail = Thumbnail::from_pixels(pixels).unwrap();
        let side = f64::from(number) / 7.0;
        Look {
            width: u32::from(number) * 1000,
            height: 3,
            format: formats()[usize::from(number) % 6],
            notes: Notes(u32::from(number) << 24 | 5),
            sketch: Sketch::of(&thumbnail),
            thumbnail: Digest::of(thumbnail.pixels()),
            descriptor: Descriptor::of(&thumbnail),
            colors: number
                .is_multiple_of(2)
                .then_some(Colors { mean: [side, 0.0, 1.0], mean_square: [0.5, side, 0.1] }),
        }
    }

    #[test]
    fn looks_are_found_by_the_digest_of_their_file_and_are_the_same() {
        let memo = Memo::temporary().unwrap();
        let image =
            |number: u8| Image { path: String::new(), length: 0, digest: Digest::of(&[number]) };
        let mut images: Vec<Image> = (0..60).map(image).collect();
        images.sort_by_key(|image| image.digest);
        let number =
            |image: &Image| (0..60).find(|one| image.digest == Digest::of(&[*one])).unwrap();
        let looks: Vec<Result<Look, String>> =
            images.iter().map(|image| Ok(look(number(image)))).collect();
        let remembered = Remembered::of(&memo, "a");
        remembered.put(&images.iter().collect::<Vec<_>>(), &looks);
        let known = remembered.known();
        assert_eq!(known.len(), 60);
        for (image, look) in images.iter().zip(&looks) {
            let found = known.find(&image.digest).unwrap();
            assert_eq!(found, *look.as_ref().unwrap());
        }
        assert_eq!(known.find(&Digest::of(b"another")), None);
        assert_eq!(Remembered::of(&memo, "b").known().len(), 0);
    }
}
