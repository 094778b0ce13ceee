//! Classifies a stream of images. They are read and decoded in parallel, ahead of the network; memory
//! is bounded by the batches that wait, however many images there are. What comes out is in the order
//! of what goes in, and an image's probabilities are the same bytes in any batch.

use super::{Model, ModelError};
use crate::common::special_file::special;
use crate::data::Preprocessing;
use crate::data::decode::{self, SquareImage};
use crate::data::images::{read_file, too_long};
use crate::data::normalization::network_input;
use rayon::prelude::*;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

/// Images decoded and classified together.
const BATCH: usize = 32;
/// Decoded batches that wait for the network, beside the one that is being decoded.
const AHEAD: usize = 2;
/// How often a reader of the stream looks whether it should stop.
const PATIENCE: Duration = Duration::from_millis(50);

/// An image to classify.
pub(crate) struct GivenImage {
    /// What the result is called.
    pub name: String,
    pub content: Content,
}

/// Where an image is.
pub(crate) enum Content {
    File(PathBuf),
    /// The bytes of an image file.
    Bytes(Vec<u8>),
    /// Known not to be readable, and why.
    Unreadable(String),
}

/// The result for one image.
pub(crate) struct Classified {
    /// As given.
    pub name: String,
    /// The scores, or why the image can't be read.
    pub scores: Result<ImageScores, String>,
}

/// The result for an image that could be read.
pub(crate) struct ImageScores {
    /// In the order of [`Model::classes`]; finite.
    pub probabilities: Vec<f32>,
    /// The stored square that was classified, for [`Model::explain`].
    pub square: Vec<u8>,
    /// Something to know of the image, such as "damaged: 4 % of it is missing".
    pub warning: Option<String>,
}

/// An image on its way to the network.
struct Prepared {
    name: String,
    image: Result<(Vec<f32>, SquareImage), String>,
}

/// The results for a stream of images.
pub(crate) struct Classifying<'a> {
    model: &'a Model,
    prepared: Receiver<Vec<Prepared>>,
    /// Lists and decodes; joined at the end, for their panics.
    threads: Vec<JoinHandle<()>>,
}

impl Model {
    /// Begins to classify images. The iterator runs on a thread of its own, and may block: what it
    /// gave so far is classified meanwhile.
    ///
    /// # Errors
    /// When no thread can be started.
    pub(crate) fn classify(
        &self,
        images: impl Iterator<Item = GivenImage> + Send + 'static,
    ) -> Result<Classifying<'_>, ModelError> {
        let (sender, given) = sync_channel(BATCH);
        let list = move || {
            for image in images {
                if sender.send(image).is_err() {
                    return;
                }
            }
        };
        let (sender, prepared) = sync_channel(AHEAD);
        let preprocessing = self.preprocessing().clone();
        let decode = move || prepare_all(&given, &preprocessing, &sender);
        // The order in which they are joined: the list may wait for its source.
        let threads = vec![start("decode", decode)?, start("list", list)?];
        Ok(Classifying { model: self, prepared, threads })
    }

    fn classified(&self, batch: Vec<Prepared>) -> Result<Vec<Classified>, ModelError> {
        let readable = || batch.iter().filter_map(|prepared| prepared.image.as_ref().ok());
        let count = readable().count();
        let input: Vec<f32> = readable().flat_map(|(input, _)| input).copied().collect();
        let probabilities = self.probabilities(&input, count)?;
        let mut rows = probabilities.chunks_exact(self.classes().len());
        let classified = |Prepared { name, image }: Prepared| {
            let scores = match image {
                Err(reason) => Err(reason),
                Ok((_, SquareImage { pixels, notes, .. })) => Ok(ImageScores {
                    probabilities: finite(&name, rows.next().unwrap_or_default())?,
                    square: pixels,
                    warning: notes.warning(),
                }),
            };
            Ok(Classified { name, scores })
        };
        batch.into_iter().map(classified).collect()
    }
}

/// The probabilities of an image, if they are numbers.
fn finite(name: &str, probabilities: &[f32]) -> Result<Vec<f32>, ModelError> {
    match probabilities.iter().all(|p| p.is_finite()) {
        true => Ok(probabilities.to_vec()),
        false => Err(ModelError::new(format!(
            "the model's answer for {name} is no number: its weights are damaged"
        ))),
    }
}

fn start(name: &str, work: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, ModelError> {
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(work)
        .map_err(|error| ModelError::new(format!("no thread can be started: {error}")))
}

/// Decodes images in batches. A batch is what is there: a slow list doesn't hold up its first image.
fn prepare_all(
    given: &Receiver<GivenImage>,
    preprocessing: &Preprocessing,
    out: &SyncSender<Vec<Prepared>>,
) {
    while let Ok(first) = given.recv() {
        let batch: Vec<GivenImage> =
            std::iter::once(first).chain(given.try_iter().take(BATCH - 1)).collect();
        let prepared = batch.into_par_iter().map(|image| prepare(image, preprocessing)).collect();
        if out.send(prepared).is_err() {
            return;
        }
    }
}

fn prepare(GivenImage { name, content }: GivenImage, preprocessing: &Preprocessing) -> Prepared {
    let bytes = match content {
        Content::File(path) => read(&path),
        Content::Bytes(bytes) => match too_long(bytes.len() as u64) {
            None => Ok(bytes),
            Some(error) => Err(error.to_string()),
        },
        Content::Unreadable(reason) => Err(reason),
    };
    let image = bytes.and_then(|bytes| {
        let square =
            decode::preprocess(&bytes, preprocessing).map_err(|error| error.to_string())?;
        Ok((network_input(&square.pixels, preprocessing), square))
    });
    Prepared { name, image }
}

/// The bytes of an image file, or why they can't be read.
fn read(path: &Path) -> Result<Vec<u8>, String> {
    let metadata = fs::metadata(path).map_err(|error| error.to_string())?;
    if metadata.is_dir() {
        return Err("it is a folder".to_owned());
    }
    if let Some(kind) = special(metadata.file_type()) {
        return Err(format!("it is {kind}, not a file"));
    }
    let read = File::open(path).and_then(|file| read_file(file, metadata.len()));
    read.map_err(|error| error.to_string())?.map_err(|error| error.to_string())
}

impl Classifying<'_> {
    /// The results for the next images, in their order; `None` at the end, or once `stop` is true.
    ///
    /// # Errors
    /// When the network can't run, or answers with something that is no number.
    pub(crate) fn next(
        &mut self,
        stop: impl Fn() -> bool,
    ) -> Result<Option<Vec<Classified>>, ModelError> {
        while !stop() {
            match self.prepared.recv_timeout(PATIENCE) {
                Ok(batch) => return self.model.classified(batch).map(Some),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return self.finish().map(|()| None),
            }
        }
        Ok(None)
    }

    /// The stream ended: because all images were there, and not because a thread panicked.
    fn finish(&mut self) -> Result<(), ModelError> {
        match self.threads.drain(..).all(|thread| thread.join().is_ok()) {
            true => Ok(()),
            false => Err(ModelError::new(
                "reading images failed; this is a bug in pipe; please report it",
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_file_of_an_image_is_refused_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("a.png");
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        assert_eq!(read(&socket).unwrap_err(), "it is a socket, not a file");
        assert_eq!(read("/dev/zero".as_ref()).unwrap_err(), "it is a device, not a file");
        assert_eq!(read(folder.path()).unwrap_err(), "it is a folder");
        let sparse = folder.path().join("b.png");
        File::create(&sparse).unwrap().set_len(3_000_000_000).unwrap();
        let error = read(&sparse).unwrap_err();
        assert_eq!(error, "the file has 3.0 GB, above the limit of 2.0 GB");
    }
}
