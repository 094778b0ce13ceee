//! Tests of the sketches that are written beside records.

use super::*;
use crate::data::similarity::{Sketch, Thumbnail};

/// As [`made_as`], with sketches.
fn sketched(
    storage: Storage,
    fetched: &Path,
    path: &Path,
    earlier: Option<(&Records, Option<Arc<Sketches>>)>,
) -> Written {
    let images = images::open(fetched, None).unwrap();
    let task = EventSink::silent().task("decode", None, "images");
    let (earlier, known) = earlier.unzip();
    let (beside, known) = (path.with_extension("sketches"), known.flatten());
    let writer = Writer {
        images: &images,
        geometry: &larger(),
        storage,
        earlier,
        sketches: Some(Sketching { path: &beside, earlier: known }),
        task: &task,
        cancel: &CancellationToken::new(),
    };
    writer.write(path).unwrap()
}

#[test]
fn sketches_are_those_of_the_records_however_they_come_about() {
    for storage in [Storage::Raw, JPEG] {
        let (few, many, folder) = (mixed(6), mixed(10), tempfile::tempdir().unwrap());
        let path = |name: &str| folder.path().join(name);
        let are_right = |made: &Written, records: &Path| {
            let (records, sketches) = (Records::open(records).unwrap(), made.sketches.as_ref());
            (0..records.count()).all(|index| {
                let square = records.record(index).unwrap();
                let expected = Sketch::of(&Thumbnail::of_square(&square, 16).unwrap());
                sketches.unwrap().of_record(index).unwrap() == expected
            })
        };
        let first = sketched(storage, few.path(), &path("few"), None);
        assert!(are_right(&first, &path("few")));
        let earlier = Records::open(&path("few")).unwrap();
        let more =
            sketched(storage, many.path(), &path("more"), Some((&earlier, first.sketches.clone())));
        assert_eq!(more.reused, 6);
        assert!(are_right(&more, &path("more")));
        // The same images: the known ones are taken, and others made of the records.
        let known = [first.sketches, more.sketches, None];
        for (known, is_taken) in known.into_iter().zip([true, false, false]) {
            let again = sketched(storage, few.path(), &path("again"), Some((&earlier, known)));
            assert!(again.unchanged && are_right(&again, &path("few")));
            assert_eq!(path("again.sketches").exists(), !is_taken);
        }
        // A damaged one counts as missing.
        let file = path("few.sketches");
        let mut bytes = std::fs::read(&file).unwrap();
        bytes[4096 + 192 + 5] ^= 1;
        std::fs::write(path("damaged"), bytes).unwrap();
        let records = fingerprint(&larger(), storage);
        let damaged = Sketches::open(&path("damaged"), &records).unwrap().map(Arc::new);
        assert!(damaged.is_some());
        let again = sketched(storage, few.path(), &path("again"), Some((&earlier, damaged)));
        assert!(are_right(&again, &path("few")));
        assert!(Sketches::open(&file, &Digest::of(b"other")).unwrap().is_none());
        assert!(Sketches::open(&path("few"), &records).unwrap().is_none());
    }
}
