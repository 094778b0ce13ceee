//! Tests of the listing: its file and its checks.

use super::*;
use proptest::prelude::*;
use std::os::unix::ffi::OsStrExt;

struct Home {
    _temporary: tempfile::TempDir,
    folder: PathBuf,
    memo: PathBuf,
    store: PathBuf,
}

impl Home {
    fn new() -> Home {
        let temporary = tempfile::tempdir().unwrap();
        let (folder, memo) = (temporary.path().join("images"), temporary.path().join("memo"));
        let store = folder.join("cache");
        std::fs::create_dir_all(&store).unwrap();
        Home { folder, memo, store, _temporary: temporary }
    }

    fn write(&self, path: &str, content: &[u8]) {
        let path = self.folder.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }

    /// The number of bytes read and the listing, `later` seconds from now.
    fn list(&self, later: u64) -> (u64, Listing) {
        let read = AtomicU64::new(0);
        let watch = |_, total| {
            read.store(total, Ordering::Relaxed);
            true
        };
        let now = SystemTime::now() + Duration::from_secs(later);
        let listing =
            list(&self.folder, &self.memo, &self.store, now, &|path| path != "big.zip", &watch)
                .unwrap();
        (read.into_inner(), listing)
    }
}

#[test]
fn a_listing_contains_names_and_contents() {
    let home = Home::new();
    home.write("b/2.jpg", b"two");
    home.write("a.jpg", b"one");
    home.write(".DS_Store", b"x");
    home.write(".ipynb_checkpoints/a.jpg", b"x");
    home.write("cache/v1/artifact", b"x");
    std::os::unix::fs::symlink("a.jpg", home.folder.join("linked.jpg")).unwrap();
    std::os::unix::fs::symlink("nowhere", home.folder.join("broken.jpg")).unwrap();
    std::os::unix::fs::symlink("..", home.folder.join("b/loop")).unwrap();
    let (_, listing) = home.list(0);
    let files: Vec<_> =
        listing.files.iter().map(|file| (file.path.as_str(), file.len, file.digest)).collect();
    let one = Digest::of(b"one");
    assert_eq!(
        files,
        [("a.jpg", 3, one), ("b/2.jpg", 3, Digest::of(b"two")), ("linked.jpg", 3, one)]
    );
    let skipped: Vec<_> = listing.skipped.iter().map(|(path, _)| path.as_str()).collect();
    assert_eq!(skipped, [".DS_Store", ".ipynb_checkpoints/", "b/loop", "broken.jpg"]);
    assert_eq!(listing.skipped[2].1, Skip::Loop);
    assert_eq!(listing.skipped[3].1, Skip::Dangling("nowhere".into()));
    let elsewhere = Home::new();
    elsewhere.write("b/2.jpg", b"two");
    elsewhere.write("a.jpg", b"one");
    elsewhere.write("linked.jpg", b"one");
    assert_eq!(elsewhere.list(0).1.digest(), listing.digest());
    elsewhere.write("b/2.jpg", b"too");
    assert_ne!(elsewhere.list(0).1.digest(), listing.digest());
}

#[test]
fn an_unchanged_file_is_not_read_again_unless_it_was_new() {
    let home = Home::new();
    home.write("a", b"one");
    home.write("b", b"three");
    assert_eq!(home.list(0).0, 8);
    assert_eq!(home.list(10).0, 8, "files as new as the first listing were not remembered");
    let (read, listing) = home.list(20);
    assert_eq!(read, 0);
    home.write("a", b"two");
    let (read, changed) = home.list(30);
    assert_eq!(read, 3);
    assert_ne!(changed.digest(), listing.digest());
    std::fs::remove_file(home.folder.join("a")).unwrap();
    assert_eq!(home.list(40).1.files.len(), 1);
}

#[test]
fn a_truncated_memo_only_costs_time() {
    let home = Home::new();
    home.write("a", b"one");
    home.write("b", b"three");
    let (_, listing) = home.list(10);
    let bytes = std::fs::read(&home.memo).unwrap();
    for length in 0..bytes.len() {
        std::fs::write(&home.memo, &bytes[..length]).unwrap();
        assert_eq!(home.list(10), (8, listing.clone()), "{length}");
    }
    assert_eq!(home.list(20).0, 0);
}

#[test]
fn listing_can_be_cancelled_and_a_missing_folder_is_named() {
    let home = Home::new();
    home.write("a", b"one");
    let now = SystemTime::now();
    let stopped = list(&home.folder, &home.memo, &home.store, now, &|_| true, &|_, _| false);
    assert!(matches!(stopped, Err(StoreError::Cancelled)));
    for wrong in ["none", "a"] {
        let error =
            list(&home.folder.join(wrong), &home.memo, &home.store, now, &|_| true, &|_, _| true)
                .unwrap_err();
        assert!(error.to_string().contains(wrong), "{error}");
    }
}

#[test]
fn empty_folders_are_named_and_hidden_dangling_links_are_hidden() {
    let home = Home::new();
    home.write("a/1.png", b"one");
    home.write("b/.hidden", b"x");
    std::fs::create_dir_all(home.folder.join("c/d/e")).unwrap();
    std::fs::create_dir_all(home.folder.join("a/f")).unwrap();
    std::os::unix::fs::symlink("nowhere", home.folder.join(".#lock")).unwrap();
    let (found, skipped) = scan(&home.folder, &home.store).unwrap();
    assert_eq!(found, ["a/1.png"]);
    let empty: Vec<_> = skipped.iter().filter(|(_, skip)| *skip == Skip::EmptyFolder).collect();
    let empty: Vec<_> = empty.into_iter().map(|(path, _)| path.as_str()).collect();
    assert_eq!(empty, ["a/f/", "b/", "c/"]);
    let hidden: Vec<_> = skipped.iter().filter(|(_, skip)| *skip == Skip::Hidden).collect();
    assert_eq!(hidden.len(), 2);
}

#[test]
fn files_that_are_not_wanted_are_not_read() {
    let home = Home::new();
    home.write("a.jpg", b"one");
    let (_, before) = home.list(0);
    home.write("big.zip", &[1; 1000]);
    let (read, listing) = home.list(0);
    assert_eq!((read, listing.digest()), (3, before.digest()));
    assert_eq!(listing.others, ["big.zip"]);
}

#[test]
fn an_unchanged_file_keeps_its_digest() {
    let home = Home::new();
    home.write("a.zip", b"one");
    let path = home.folder.join("a.zip");
    let digest = |later| {
        let now = SystemTime::now() + Duration::from_secs(later);
        digest_one(&path, &home.memo, now).unwrap()
    };
    assert_eq!(digest(0), Digest::of(b"one"));
    assert!(!home.memo.exists(), "a file as new as this isn't remembered");
    assert_eq!(digest(10), Digest::of(b"one"));
    // The memo is used: another digest in it is returned.
    let identity = Identity::of(&rustix::fs::stat(&path).unwrap());
    let mut other = Vec::new();
    encode(&mut other, "", &identity, &Digest::of(b"two"));
    sealed::write_sealed(&home.memo, &[&other]).unwrap();
    assert_eq!(digest(20), Digest::of(b"two"));
    home.write("a.zip", b"three");
    assert_eq!(digest(30), Digest::of(b"three"));
}

#[test]
fn many_folders_and_links_between_them_are_walked_once_each() {
    let home = Home::new();
    for folder in 0..40 {
        for file in 0..10 {
            home.write(&format!("{}/{folder}/{file}", folder % 3), b"x");
        }
    }
    for file in 0..500 {
        home.write(&format!("flat/{file}"), b"x");
    }
    std::fs::create_dir_all(home.folder.join("links")).unwrap();
    let link = |target: &str, name: &str| {
        std::os::unix::fs::symlink(target, home.folder.join(name)).unwrap();
    };
    link("../flat", "links/flat");
    link("../links", "links/itself");
    link("self", "links/self");
    link("../cache", "links/cache");
    link("../flat", "links/.hidden");
    home.write("cache/v1/artifact", b"x");
    let fifo = home.folder.join("fifo");
    assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    let not_text = std::ffi::OsStr::from_bytes(b"not\xfftext");
    std::fs::create_dir(home.folder.join(not_text)).unwrap();
    std::fs::write(home.folder.join(not_text).join("a"), b"x").unwrap();
    let (found, skipped) = scan(&home.folder, &home.store).unwrap();
    assert_eq!(found.len(), 400 + 2 * 500);
    assert!(found.is_sorted());
    let skipped: Vec<(&str, String)> =
        skipped.iter().map(|(path, reason)| (path.as_str(), format!("{reason:?}"))).collect();
    let expected = [
        ("fifo", "NotAFile"),
        ("links/.hidden/", "Hidden"),
        ("links/itself", "Loop"),
        ("links/self", "Unreadable(\"Too many levels of symbolic links (os error 40)\")"),
        ("not\u{fffd}text/a", "NotUtf8"),
    ];
    assert_eq!(skipped, expected.map(|(path, reason)| (path, reason.to_owned())));
}

#[test]
fn large_folders_are_listed_in_order_with_what_is_wanted() {
    let home = Home::new();
    // So many long names that a file system's folder of them is large.
    let name = |index: usize| format!("{index:0>200}");
    for folder in ["b", "a"] {
        for index in 0..1_500 {
            let ending = if index % 3 == 0 { "txt" } else { "png" };
            home.write(&format!("{folder}/{}.{ending}", name(index)), index.to_string().as_bytes());
        }
    }
    let all: Vec<String> = ["a", "b"]
        .iter()
        .flat_map(|folder| (0..1_500).map(move |index| (folder, index)))
        .filter(|(_, index)| index % 3 != 0)
        .map(|(folder, index)| format!("{folder}/{}.png", name(index)))
        .collect();
    let listing = list(
        &home.folder,
        &home.memo,
        &home.store,
        SystemTime::now(),
        &|path| path.ends_with("png"),
        &|_, _| true,
    )
    .unwrap();
    let found: Vec<&String> = listing.files.iter().map(|file| &file.path).collect();
    assert_eq!(found, all.iter().collect::<Vec<_>>());
    assert_eq!(listing.others.len(), 1_000);
    for (file, path) in listing.files.iter().zip(&all) {
        let number: usize = path[2..202].parse().unwrap();
        assert_eq!(file.digest, Digest::of(number.to_string().as_bytes()), "{path}");
    }
}

#[test]
fn a_very_deep_folder_is_walked() {
    let home = Home::new();
    let mut folder = home.folder.clone();
    for _ in 0..900 {
        folder.push("d");
    }
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("file"), b"x").unwrap();
    let (found, skipped) = scan(&home.folder, &home.store).unwrap();
    assert_eq!((found.len(), skipped.len()), (1, 0));
}

proptest! {
    #[test]
    fn the_memo_round_trips_and_any_bytes_are_handled(
        rows in proptest::collection::btree_map(".{0,9}", (any::<[u64; 3]>(), any::<[i64; 4]>(), any::<[u8; 32]>()), 0..5),
        noise in proptest::collection::vec(any::<u8>(), 0..300), cut in any::<prop::sample::Index>(),
    ) {
        let rows: Vec<_> = rows.into_iter().map(|(path, (a, b, digest))| {
            let [device, inode, length] = a;
            let identity = Identity { device, inode, length, modified: (b[0], b[1]), changed: (b[2], b[3]) };
            (path, identity, Digest::from_bytes(digest))
        }).collect();
        let mut bytes = Vec::new();
        rows.iter().for_each(|(path, identity, digest)| encode(&mut bytes, path, identity, digest));
        let known = Known::read(bytes.clone()).unwrap();
        let owned = |(path, identity, digest): Remembered| (path.to_owned(), identity, digest);
        let back: Vec<_> = known.iter().map(owned).collect();
        prop_assert!(back == rows && known.count == rows.len());
        if !bytes.is_empty() {
            let _ = Known::read(bytes[..cut.index(bytes.len())].to_vec());
        }
        let _ = Known::read(noise);
    }
}
