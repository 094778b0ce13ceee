//! Duplicates: images with equal pixels, and near duplicates. Pixels are compared at full size only
//! where the thumbnails are equal or nearly so.

use super::findings::{Duplicates, MAX_EXAMPLES, NearDuplicate, NearDuplicates};
use super::look::Look;
use crate::data::DataError;
use crate::data::decode::{self, DecodeOptions};
use crate::data::images::{Image, ImageSet};
use crate::data::labels::Labels;
use crate::data::similarity::{self, Pair};
use crate::store::Digest;
use rayon::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

/// Similarity from which two images of equal size may have equal pixels.
const MAYBE_EQUAL: f64 = 0.9995;

/// The images of a set, each distinct file once.
pub(super) struct Distinct<'a> {
    pub(super) images: &'a ImageSet,
    pub(super) labels: &'a Labels,
    /// One image for each file content, sorted by digest.
    pub(super) files: Vec<&'a Image>,
    /// Of each file: the positions in the set of all images that have it.
    pub(super) members: Vec<Vec<usize>>,
}

impl Distinct<'_> {
    /// Duplicates and near duplicates.
    pub(super) fn duplicates(
        &self,
        looks: &[Result<Look, String>],
    ) -> Result<(Duplicates, NearDuplicates), DataError> {
        let sketch = |at: usize| Ok(looks[at].as_ref().ok().map(|look| look.sketch));
        let thumbnail = |at: usize| {
            let bytes = self.images.read(self.files[at])?;
            Ok(decode::glance(&bytes, DecodeOptions::default())?.thumbnail)
        };
        let pairs = similarity::pairs(looks.len(), sketch, |_, _| true, thumbnail)?;
        let pixels = self.pixels(looks, &pairs)?;
        let near = pairs.iter().filter(|pair| pixels[pair.first] != pixels[pair.second]);
        Ok((self.equal(&pixels), self.near(near.collect())))
    }

    /// A digest for each file, the same for files with equal pixels. Only where others may be equal
    /// are the pixels read; otherwise it is the digest of the file.
    fn pixels(
        &self,
        looks: &[Result<Look, String>],
        pairs: &[Pair],
    ) -> Result<Vec<Digest>, DataError> {
        let size = |at: usize| looks[at].as_ref().ok().map(|look| (look.width, look.height));
        let similar = pairs
            .iter()
            .filter(|pair| pair.similarity >= MAYBE_EQUAL && size(pair.first) == size(pair.second));
        let mut uncertain: BTreeSet<usize> =
            similar.flat_map(|pair| [pair.first, pair.second]).collect();
        let mut same: BTreeMap<_, Vec<usize>> = BTreeMap::new();
        for (at, look) in looks.iter().enumerate() {
            if let Ok(look) = look {
                same.entry((look.thumbnail, look.width, look.height)).or_default().push(at);
            }
        }
        uncertain.extend(same.into_values().filter(|members| members.len() > 1).flatten());
        let read = |&at: &usize| Ok((at, self.digest_of_pixels(self.files[at])?));
        let read: Result<BTreeMap<usize, Digest>, DataError> =
            uncertain.par_iter().map(read).collect();
        let read = read?;
        let files = self.files.iter().enumerate();
        Ok(files.map(|(at, image)| read.get(&at).copied().unwrap_or(image.digest)).collect())
    }

    fn digest_of_pixels(&self, image: &Image) -> Result<Digest, DataError> {
        let decode = |bytes: Vec<u8>| decode::decode(&bytes, DecodeOptions::default());
        let pixels = match self.images.read(image).and_then(decode) {
            Ok(full) => full.pixels,
            // A glance reads less of a file.
            Err(DataError::Unreadable(_)) => return Ok(image.digest),
            Err(other) => return Err(other),
        };
        let mut bytes = Vec::with_capacity(8 + pixels.bytes.len() * 3 / pixels.channels);
        bytes.extend(pixels.width.to_le_bytes());
        bytes.extend(pixels.height.to_le_bytes());
        match pixels.channels {
            1 => bytes.extend(pixels.bytes.iter().flat_map(|&level| [level; 3])),
            _ => bytes.extend(&pixels.bytes),
        }
        Ok(Digest::of(&bytes))
    }

    fn path(&self, at: usize) -> &str {
        &self.images.list()[at].path
    }

    fn class(&self, at: usize) -> Option<&String> {
        let class = self.labels.by_image.get(at).copied().flatten()?;
        self.labels.classes.get(class as usize)
    }

    fn equal(&self, pixels: &[Digest]) -> Duplicates {
        let mut groups: BTreeMap<Digest, Vec<usize>> = BTreeMap::new();
        for (digest, members) in pixels.iter().zip(&self.members) {
            groups.entry(*digest).or_default().extend(members);
        }
        let mut duplicates = Duplicates::default();
        for members in groups.values_mut().filter(|members| members.len() > 1) {
            members.sort_unstable();
            duplicates.count += members.len() as u64 - 1;
            let first = members.iter().find_map(|&at| self.class(at));
            let others = members
                .iter()
                .filter(|&&at| self.class(at).is_some_and(|class| Some(class) != first))
                .count();
            duplicates.contradictory += others as u64;
            if others > 0 {
                let named = |&at: &usize| Some([self.path(at).to_owned(), self.class(at)?.clone()]);
                duplicates.conflicts.push(members.iter().filter_map(named).collect());
            }
            duplicates.examples.push(members.iter().map(|&at| self.path(at).to_owned()).collect());
        }
        duplicates.examples.sort();
        duplicates.examples.truncate(MAX_EXAMPLES);
        duplicates.conflicts.sort();
        duplicates.conflicts.truncate(MAX_EXAMPLES);
        duplicates
    }

    fn near(&self, pairs: Vec<&Pair>) -> NearDuplicates {
        let mut found = NearDuplicates::default();
        let mut examples = Vec::new();
        for pair in pairs {
            let mut both = [self.members[pair.first][0], self.members[pair.second][0]];
            both.sort_unstable();
            let classes = both.map(|at| self.class(at));
            let [one, other] = both.map(|at| self.labels.layout.split(self.path(at)));
            let across_splits = one.is_some() && other.is_some() && one != other;
            let differ = matches!(classes, [Some(one), Some(other)] if one != other);
            found.pairs += 1;
            found.contradictory += u64::from(differ);
            found.across_splits += u64::from(across_splits);
            let example = NearDuplicate {
                paths: both.map(|at| self.path(at).to_owned()),
                classes: classes.map(|class| class.cloned()),
                similarity: (pair.similarity * 1e4).round() / 1e4,
                across_splits,
            };
            examples.push((!differ, !across_splits, example));
        }
        examples.sort_by(|a, b| {
            let similar = b.2.similarity.total_cmp(&a.2.similarity);
            (a.0, a.1).cmp(&(b.0, b.1)).then(similar).then(a.2.paths.cmp(&b.2.paths))
        });
        found.examples = examples.into_iter().take(MAX_EXAMPLES).map(|(.., one)| one).collect();
        found
    }
}
