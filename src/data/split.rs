//! Assigns images to the train, validation and test splits: by fractions, or as their author did. By
//! fractions, an image's split follows from its content, so it stays the same when images are added,
//! renamed or relabelled. Images with equal files or equal pixels, and images of one group, are
//! always on the same side.

mod units;

use super::images::ImageSet;
use super::labels::{Labels, Table};
use super::{DataError, Split};
use crate::common::layout::{SplitFolder, split_folder};
use crate::common::words::{and_list, shortened_list};
use crate::config::{choices, keys};
use crate::store::Digest;
use std::collections::{BTreeMap, HashMap};
use units::{Unit, position, units};

keys! {
    /// How images are split.
    pub struct Rule / GivenRule {
        /// `fractions`; `folder`, by the author's train, validation (or val, valid) and test
        /// folders; `csv`, by a column of a table. By fractions unless given; where such folders
        /// are there, a warning says so.
        from: Option<SplitFrom> = none;
        /// Fraction to train on. 0.8 if no fraction is given. Otherwise 0 or, with `from = "folder"`
        /// or `"csv"`, what the others leave.
        train: f64 = computed in 0..=1;
        /// Fraction for validation while training. 0.1 if no fraction is given, else 0. With `from =
        /// "folder"` or `"csv"`: the fraction of the author's training images, 0 by default, and
        /// only if there is no such split.
        validation: f64 = computed in 0..=1;
        /// Fraction to score once, at the end. 0.1 if no fraction is given, else 0. With `from =
        /// "folder"` or `"csv"`, as `validation`.
        test: f64 = computed in 0..=1;
        /// `hash`: by the image's content, so that an image stays in its split when others are
        /// added; `exact`: exact fractions of each class, and remainders carry over to the next.
        method: Method = "hash";
        /// For `from = "csv"`: the column with `train`, `val` (or `valid`, `validation`) or `test`.
        column: String = "split";
        /// For `from = "csv"` and `group`: the table, if it isn't that of the labels.
        file: Option<String> = none;
        /// Keeps images of one group (a patient, an object, a camera) on one side: the name of a
        /// group of the pattern, or of a column of the table.
        group: Option<String> = none;
        /// For `group`: a regular expression with a group of this name, matched against the path
        /// below the source, if it isn't the pattern of the labels.
        pattern: Option<String> = none;
        /// Another seed makes another split. It isn't the pipeline's, so that runs with different
        /// seeds are scored on the same images.
        seed: u64 = 0;
    }
}

choices! {
    /// The source of an image's split.
    pub enum SplitFrom {
        /// Chance, in these fractions.
        Fractions = "fractions",
        /// The author's folders.
        Folder = "folder",
        /// A column of a table.
        Csv = "csv",
    }
}

choices! {
    /// How the fractions are met.
    pub enum Method {
        /// Each image by itself: stable, fractions as near as chance has it.
        Hash = "hash",
        /// Each class by exact counts: new images may move others.
        Exact = "exact",
    }
}

impl Rule {
    /// Whether the author says the split.
    pub fn is_given(&self) -> bool {
        matches!(self.from, Some(SplitFrom::Folder | SplitFrom::Csv))
    }
}

/// A labelled image.
#[derive(Clone, Copy, Debug)]
pub struct Labelled<'a> {
    /// Digest of the file.
    pub digest: Digest,
    /// Digest of the pixels, once they are decoded.
    pub pixels: Option<&'a Digest>,
    pub class: u32,
    /// The split that its author says.
    pub given: Option<Split>,
    /// The group that has to stay together.
    pub group: Option<&'a str>,
}

/// The splits of the author's folders. None for an image without a class.
///
/// # Errors
/// If there are no such folders, or a labelled image is in none of them.
pub fn by_folder(set: &ImageSet, labels: &Labels) -> Result<Vec<Option<Split>>, DataError> {
    if labels.layout.splits.is_empty() {
        return Err(DataError::invalid(
            "the images aren't in folders of a split",
            "name the folders `train`, `val` and `test`, or split by fractions: split = { train = 0.8, validation = 0.1, test = 0.1 }",
        ));
    }
    let split = |path: &str| match labels.layout.split(path)? {
        SplitFolder::Train => Some(Split::Train),
        SplitFolder::Validation => Some(Split::Validation),
        SplitFolder::Test => Some(Split::Test),
    };
    let rows = set.list().iter().zip(&labels.by_image);
    rows.map(|(image, class)| match (class, split(&image.path)) {
        (None, _) => Ok(None),
        (Some(_), Some(split)) => Ok(Some(split)),
        (Some(_), None) => Err(DataError::invalid(
            format!(
                "{} is in none of the folders {}",
                image.path,
                and_list(labels.layout.splits.iter().map(String::as_str))
            ),
            "list its folder in [dataset] unlabelled, or split by fractions",
        )),
    })
    .collect()
}

/// The splits in a column of a table, by the row of each image.
///
/// # Errors
/// If a row has another word.
pub fn by_column(
    table: &Table,
    rows: &[Option<usize>],
    column: &str,
) -> Result<Vec<Option<Split>>, DataError> {
    let column = table.column(column)?;
    let split = |row: usize| {
        let word = table.field(row, column).unwrap_or_default();
        match split_folder(word) {
            Some(SplitFolder::Train) => Ok(Split::Train),
            Some(SplitFolder::Validation) => Ok(Split::Validation),
            Some(SplitFolder::Test) => Ok(Split::Test),
            None => Err(DataError::invalid(
                format!("row {} of {} has the split `{word}`", row + 1, table.name),
                "expected `train`, `validation` or `test`",
            )),
        }
    };
    rows.iter().map(|row| row.map(split).transpose()).collect()
}

/// Checks the fractions of a rule. The error is a sentence.
pub fn check(rule: &Rule) -> Result<(), String> {
    let fractions = [rule.train, rule.validation, rule.test];
    let sum: f64 = fractions.iter().sum();
    if fractions.iter().any(|fraction| !(0.0..=1.0).contains(fraction)) {
        return Err("the fractions of the split must be between 0 and 1".into());
    }
    if (sum - 1.0).abs() > 1e-6 {
        return Err(format!(
            "the fractions of the split sum to {}, not 1",
            (sum * 1e6).round() / 1e6
        ));
    }
    Ok(())
}

/// The split of each image.
///
/// # Errors
/// If a split with a fraction above 0 is empty, or a class has no training images.
pub fn split(
    images: &[Labelled],
    classes: &[String],
    rule: &Rule,
) -> Result<Vec<Split>, DataError> {
    check(rule).map_err(|message| DataError::invalid(message, HELP))?;
    let splits = match rule.is_given() {
        false => {
            check_classes(images, classes, rule)?;
            by_fractions(images, classes.len(), rule, [rule.test, rule.validation, rule.train])
        }
        true => as_given(images, classes.len(), rule)?,
    };
    check_empty(images, &splits, classes, rule)?;
    Ok(splits)
}

const HELP: &str = "write [dataset] split = { train = 0.8, validation = 0.1, test = 0.1 }";

/// The author's splits. One that they lack is taken from the training images, if a fraction says
/// so.
fn as_given(images: &[Labelled], classes: usize, rule: &Rule) -> Result<Vec<Split>, DataError> {
    let mut splits = Vec::with_capacity(images.len());
    for image in images {
        splits.push(image.given.ok_or_else(|| {
            DataError::invalid("an image has no split", "list its folder in [dataset] unlabelled")
        })?);
    }
    let lacking = |split: Split, fraction: f64| {
        if splits.contains(&split) { 0.0 } else { fraction }
    };
    let (test, validation) =
        (lacking(Split::Test, rule.test), lacking(Split::Validation, rule.validation));
    if test + validation > 0.0 {
        let trained: Vec<usize> =
            (0..images.len()).filter(|&at| splits[at] == Split::Train).collect();
        let chosen: Vec<Labelled> = trained.iter().map(|&at| images[at]).collect();
        let fractions = [test, validation, 1.0 - test - validation];
        for (at, split) in trained.into_iter().zip(by_fractions(&chosen, classes, rule, fractions))
        {
            splits[at] = split;
        }
    }
    Ok(splits)
}

/// Splits by fractions of test, validation and train.
fn by_fractions(
    images: &[Labelled],
    classes: usize,
    rule: &Rule,
    fractions: [f64; 3],
) -> Vec<Split> {
    let all = units(images, classes, rule.seed);
    let mut splits = vec![Split::Train; images.len()];
    let mut assign = |unit: &Unit, split: Split| {
        for &member in all.members(unit) {
            splits[member as usize] = split;
        }
    };
    match rule.method {
        Method::Hash => {
            all.units.iter().for_each(|unit| assign(unit, at_position(unit, fractions)));
        }
        Method::Exact => {
            for (unit, split) in exactly(&all.units, classes, fractions) {
                assign(&all.units[unit], split);
            }
        }
    }
    splits
}

fn at_position(unit: &Unit, [test, validation, _]: [f64; 3]) -> Split {
    match unit.position {
        at if at < test => Split::Test,
        at if at < test + validation => Split::Validation,
        _ => Split::Train,
    }
}

/// Sorts the units of each class by position and cuts the list at exact counts. A unit across a cut
/// is on the side where most of it is.
fn exactly(units: &[Unit], classes: usize, fractions: [f64; 3]) -> Vec<(usize, Split)> {
    let mut by_class: Vec<Vec<usize>> = vec![Vec::new(); classes];
    for (at, unit) in units.iter().enumerate() {
        if let Some(class) = by_class.get_mut(unit.class as usize) {
            class.push(at);
        }
    }
    let mut splits = Vec::with_capacity(units.len());
    let mut carried = [0.0; 3];
    for class in &mut by_class {
        class.sort_by(|&a, &b| {
            units[a].position.total_cmp(&units[b].position).then(units[a].id.cmp(&units[b].id))
        });
        let total = class.iter().map(|&at| units[at].members.len()).sum();
        let counts = apportion(total, fractions, &carried);
        let (first, second) = (counts[0], counts[0] + counts[1]);
        let mut before = 0;
        let mut met = [0usize; 3];
        for &at in class.iter() {
            let size = units[at].members.len();
            // Twice the middle of the unit, so that it stays a whole number.
            let middle = 2 * before + size;
            let side = usize::from(middle >= 2 * first) + usize::from(middle >= 2 * second);
            splits.push((at, [Split::Test, Split::Validation, Split::Train][side]));
            met[side] += size;
            before += size;
        }
        for side in 0..3 {
            carried[side] += fractions[side] * total as f64 - met[side] as f64;
        }
    }
    splits
}

/// Distributes `count` by the largest-remainder method, counting what earlier classes lack of
/// their fractions; of equal remainders, the later entry comes first.
fn apportion(count: usize, fractions: [f64; 3], carried: &[f64; 3]) -> [usize; 3] {
    // The small addend keeps 0.1 of 30 from being floored to 2. Nothing of nothing is carried.
    let wanted: [f64; 3] = std::array::from_fn(|at| match fractions[at] {
        0.0 => 0.0,
        fraction => (fraction * count as f64 + carried[at] + 1e-10).max(0.0),
    });
    let mut counts = wanted.map(|wanted| wanted.floor() as usize);
    let mut order: Vec<usize> = [2, 1, 0].into_iter().filter(|&at| fractions[at] > 0.0).collect();
    let remainder = |at: usize| wanted[at] - wanted[at].floor();
    order.sort_by(|&a, &b| remainder(b).total_cmp(&remainder(a)));
    let sum = |counts: &[usize; 3]| counts.iter().sum::<usize>();
    for &at in order.iter().cycle().take(count.saturating_sub(sum(&counts))) {
        counts[at] += 1;
    }
    // What earlier classes lack may be more than there is here.
    while sum(&counts) > count {
        let most = (0..3).max_by_key(|&at| counts[at]).unwrap_or(2);
        counts[most] -= 1;
    }
    counts
}

/// Chooses images for a quick try: of each class (and each split of the author's) at most `limit`
/// and this fraction, but at least three, which don't change when images are added. Images without
/// a class are chosen by the fraction alone.
pub fn chosen(
    images: &[(Digest, Option<u32>, Option<Split>)],
    limit: Option<usize>,
    fraction: f64,
) -> Vec<bool> {
    let mut by_class: BTreeMap<_, Vec<(f64, usize)>> = BTreeMap::new();
    for (at, (digest, class, split)) in images.iter().enumerate() {
        // Another seed than any split's: the choice mustn't favor one of them.
        by_class.entry((*class, *split)).or_default().push((position(digest, u64::MAX), at));
    }
    let mut chosen = vec![false; images.len()];
    for ((class, _), mut members) in by_class {
        members.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        let share = (fraction * members.len() as f64).ceil() as usize;
        let limit = limit.filter(|_| class.is_some()).unwrap_or(usize::MAX);
        for (_, at) in members.into_iter().take(share.max(3).min(limit)) {
            chosen[at] = true;
        }
    }
    chosen
}

fn check_classes(images: &[Labelled], classes: &[String], rule: &Rule) -> Result<(), DataError> {
    if rule.train == 0.0 || rule.train == 1.0 {
        return Ok(());
    }
    let mut distinct: Vec<Vec<Digest>> = vec![Vec::new(); classes.len()];
    let first: HashMap<&Digest, u32> =
        images.iter().rev().map(|image| (&image.digest, image.class)).collect();
    for image in images.iter().filter(|image| first.get(&image.digest) == Some(&image.class)) {
        if let Some(found) = distinct.get_mut(image.class as usize)
            && found.len() < 2
            && !found.contains(&image.digest)
        {
            found.push(image.digest);
        }
    }
    let few = classes.iter().zip(&distinct).filter(|(_, found)| found.len() < 2);
    let few: Vec<&str> = few.map(|(name, _)| name.as_str()).collect();
    if few.is_empty() {
        return Ok(());
    }
    Err(DataError::invalid(
        format!("there is only one image of {}", shortened_list(few.iter().copied(), 5)),
        "add images of it, remove it, or merge it with another class in [dataset] class_names",
    ))
}

fn check_empty(
    images: &[Labelled],
    splits: &[Split],
    classes: &[String],
    rule: &Rule,
) -> Result<(), DataError> {
    let fractions = [
        (Split::Train, rule.train),
        (Split::Validation, rule.validation),
        (Split::Test, rule.test),
    ];
    for (split, fraction) in fractions {
        if fraction > 0.0 && !splits.contains(&split) && !rule.is_given() {
            return Err(DataError::invalid(
                format!(
                    "the split `{split}` is empty, though its fraction is {} %",
                    fraction * 100.0
                ),
                "add images, or set its fraction in [dataset] split higher, or to 0",
            ));
        }
    }
    let trains = splits.contains(&Split::Train);
    let mut trained = vec![!trains; classes.len()];
    for (one, _) in images.iter().zip(splits).filter(|(_, split)| **split == Split::Train) {
        if let Some(class) = trained.get_mut(one.class as usize) {
            *class = true;
        }
    }
    let missing: Vec<&str> = classes
        .iter()
        .zip(&trained)
        .filter(|(_, trained)| !**trained)
        .map(|(name, _)| name.as_str())
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let help = match (rule.is_given(), &rule.group) {
        (true, _) => "add images of it to the training images, or list it in [dataset] unlabelled",
        (false, Some(_)) => {
            "all its images may be in one group: try another `seed` in [dataset] split"
        }
        (false, None) => "write `method = \"exact\"` in [dataset] split, or add images",
    };
    let missing = shortened_list(missing.iter().copied(), 5);
    Err(DataError::invalid(format!("the split `train` has no image of {missing}"), help))
}

#[cfg(test)]
mod tests;
