//! Images that the program draws itself, so that a first run needs neither a download nor a folder:
//! ten kinds of garment. Colors, background, size, position, rotation and light are drawn
//! independently of the kind, so that no single pixel reveals it. Each image is a function of the
//! seed and its index alone.

mod backdrop;
mod canvas;
mod garments;
mod raster;
mod scene;
mod sine;

pub use garments::KINDS;

use super::DataError;
use super::images::Image;
use crate::config::keys;
use crate::events::{CancellationToken, Task};
use crate::random::Stream;
use crate::store::digest_bytes;
use rayon::prelude::*;
use std::path::Path;

keys! {
    /// A set of images to draw.
    #[derive(Eq)]
    pub struct Garments / GivenGarments {
        /// Number of labelled images, `train/INDEX_KIND.jpg`.
        count: u64 = 2000 in 1..=1_000_000;
        /// Number of images without a label, `test/INDEX.jpg`.
        unlabelled: u64 = 200 in 0..=1_000_000;
        /// Which kinds are drawn: 0 t-shirt, 1 trousers, 2 skirt, 3 dress, 4 coat, 5 shoe, 6 bag, 7
        /// hat, 8 sock, 9 tie.
        kinds: Vec<usize> = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9] each in 0..=9;
        /// Another seed draws other images.
        seed: u64 = 1;
    }
}

impl Garments {
    pub fn total(&self) -> u64 {
        self.count + self.unlabelled
    }

    /// The kind of image `index`: an index of [`KINDS`].
    pub fn kind(&self, index: u64) -> usize {
        let choice =
            Stream::new(self.seed, "garment-kind", &[index]).below(self.kinds.len() as u64);
        self.kinds.get(choice as usize).copied().unwrap_or_default()
    }

    /// Image `index` as a JPEG file.
    pub fn image(&self, index: u64) -> Result<Vec<u8>, DataError> {
        scene::draw(self.kind(index), &mut Stream::new(self.seed, "garment", &[index]))
    }

    /// The path of image `index`; that of a labelled image contains its kind.
    pub fn path(&self, index: u64) -> String {
        if index < self.count {
            format!("train/{index}_{}.jpg", self.kind(index))
        } else {
            format!("test/{index}.jpg")
        }
    }

    /// Draws all images into `folder`.
    pub fn write(
        &self,
        folder: &Path,
        task: &Task,
        cancel: &CancellationToken,
    ) -> Result<Vec<Image>, DataError> {
        for name in ["train", "test"] {
            let inner = folder.join(name);
            std::fs::create_dir_all(&inner)
                .map_err(|error| DataError::io("create", &inner, error))?;
        }
        let one = |index: u64| {
            if cancel.is_cancelled() {
                return Err(DataError::Cancelled);
            }
            let (bytes, path) = (self.image(index)?, self.path(index));
            let whole = folder.join(&path);
            std::fs::write(&whole, &bytes)
                .map_err(|error| DataError::io("write", &whole, error))?;
            task.advance(1);
            Ok(Image { path, length: bytes.len() as u64, digest: digest_bytes(&bytes) })
        };
        (0..self.total()).into_par_iter().map(one).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::EventSink;

    fn garments(count: u64) -> Garments {
        Garments { count, unlabelled: 2, kinds: (0..KINDS.len()).collect(), seed: 1 }
    }

    #[test]
    fn an_image_follows_from_seed_and_index() {
        let one = garments(5);
        assert_eq!(one.image(3).unwrap(), garments(50).image(3).unwrap());
        assert_ne!(one.image(3).unwrap(), one.image(4).unwrap());
        assert_ne!(one.image(3).unwrap(), Garments { seed: 2, ..one }.image(3).unwrap());
    }

    #[test]
    fn every_kind_is_drawn_as_a_jpeg() {
        for kind in 0..KINDS.len() {
            let set = Garments { kinds: vec![kind], ..garments(4) };
            for index in 0..4 {
                let full =
                    crate::data::decode::decode(&set.image(index).unwrap(), Default::default())
                        .unwrap();
                assert_eq!((full.format, full.notes.0), ("jpeg", 0));
                assert!(
                    (160..=240).contains(&full.pixels.width)
                        && (160..=240).contains(&full.pixels.height)
                );
            }
        }
    }

    #[test]
    fn files_are_named_after_index_and_kind() {
        let (folder, set) = (tempfile::tempdir().unwrap(), garments(3));
        let task = EventSink::silent().task("draw", None, "images");
        let listed = set.write(folder.path(), &task, &CancellationToken::new()).unwrap();
        assert_eq!(listed.len(), 5);
        assert_eq!(listed[0].path, format!("train/0_{}.jpg", set.kind(0)));
        assert_eq!(listed[4].path, "test/4.jpg");
        assert!(listed.iter().all(|one| folder.path().join(&one.path).is_file()));
        let cancel = CancellationToken::new();
        cancel.cancel();
        assert!(matches!(set.write(folder.path(), &task, &cancel), Err(DataError::Cancelled)));
    }
}
