//! Drives a page in a headless Chromium: nothing scrolls sideways, a cell of the confusion matrix
//! opens its images, and the switch changes the numbers. Skipped with a message where no Chromium
//! starts.

use super::case::{Case, path_of, stored};
use super::outline::assert_snapshot;
use image::RgbImage;
use pipe::report::{Explained, page};
use pipe::runs::Results;
use pipe::store::Store;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const NAMES: [&str; 3] = ["chromium", "chromium-browser", "google-chrome"];
const LIMIT: Duration = Duration::from_secs(120);

/// Shows the page in a frame of a given width, where the page itself stays as it is, its policy
/// included, and prints what a reader would see.
const HARNESS: &str = r##"<!DOCTYPE html>
<body style="margin:0"><iframe id="frame" src="page.html" style="border:0;width:WIDTHpx;height:900px"></iframe>
<pre id="out"></pre>
<script>
const lines = [];
const say = text => lines.push(text);
const settled = () => new Promise(done => setTimeout(done, 300));
const frame = document.getElementById("frame");
const drive = async () => {
  const page = frame.contentDocument, view = frame.contentWindow;
  const seen = element => element.getClientRects().length > 0;
  const all = selector => [...page.querySelectorAll(selector)];
  const measure = when => {
    const root = page.scrollingElement;
    say(`${when}: ${root.scrollWidth <= root.clientWidth ? "fits" : "too wide: " + root.scrollWidth}`);
    const scrolls = all("body *").filter(one => seen(one) && one.clientWidth > 1
      && one.scrollWidth > one.clientWidth + 1 && /auto|scroll/.test(view.getComputedStyle(one).overflowX));
    scrolls.forEach(one => say(`  scrolls: ${one.tagName} ${one.className}`));
  };
  const panels = when => {
    const open = all(".panel").filter(seen);
    say(`${when}: ${open.map(one => (one.querySelector("h3, th") || one).textContent).join("; ")}`);
    open.flatMap(one => [...one.querySelectorAll("img")]).forEach(image =>
      say(`  ${image.alt}${image.complete && image.naturalWidth > 0 ? "" : " (not drawn)"}`));
  };
  all("details").forEach(one => one.open = true);
  measure("the page");
  panels("at first");
  const cell = page.querySelector(".matrix .wrong a");
  say(`the cell is called: ${cell.getAttribute("aria-label")}`);
  cell.focus();
  say(`focus: ${page.activeElement === cell ? "the cell" : "elsewhere"}`);
  cell.click();
  await settled();
  panels("after a click");
  say(`focus: ${page.activeElement.className}`);
  measure("with a panel");
  const shown = () => [...cell.querySelectorAll("span")].filter(seen).map(one => one.textContent).join(" ");
  say(`the cell shows: ${shown()}`);
  page.querySelector(".by-share").click();
  say(`after the switch: ${shown()}`);
  const drawn = when => {
    const galleries = all(".images:not(.small)").flatMap(one => [...one.querySelectorAll("img")]).filter(seen);
    const of = name => galleries.filter(one => one.classList.contains(name)).length;
    say(`${when}: ${of("plain")} images and ${of("heat")} heat maps`);
  };
  drawn("the galleries");
  all(".by-heat")[0].click();
  drawn("after their first switch");
  all(".panel").filter(seen)[0].querySelector(".back a").click();
  await settled();
  panels("after going back");
};
frame.onload = () => drive().catch(error => say(error)).finally(() => {
  document.getElementById("out").textContent = lines.join("\n");
});
</script>"##;

/// Heat maps of one color.
fn overlays(model: &Path, images: &[Explained]) -> Option<Vec<RgbImage>> {
    assert_eq!(fs::read(model).unwrap(), b"weights");
    assert!(images.iter().all(|image| image.square.len() == 32 * 32 * 3));
    Some(images.iter().map(|_| RgbImage::from_pixel(48, 48, image::Rgb([200, 90, 0]))).collect())
}

/// An installed browser that can show a page here.
fn chromium() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let programs = NAMES.iter().flat_map(|name| {
        std::env::split_paths(&path).map(|folder| folder.join(name)).collect::<Vec<_>>()
    });
    programs.into_iter().find(|program| program.is_file() && starts(program))
}

fn starts(program: &Path) -> bool {
    let arguments = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"];
    let shown = Command::new(program).args(arguments).args(["--dump-dom", "about:blank"]).output();
    shown.is_ok_and(|shown| String::from_utf8_lossy(&shown.stdout).contains("<html"))
}

/// The lines that the harness prints about the page in `folder`, in a frame of `width` pixels.
fn driven(program: &Path, folder: &Path, width: u32) -> String {
    let harness = folder.join("harness.html");
    fs::write(&harness, HARNESS.replace("WIDTH", &width.to_string())).unwrap();
    let profile = format!("--user-data-dir={}", folder.join("profile").display());
    let out = folder.join("out");
    let mut child = Command::new(program)
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"])
        // The harness may look into its frame.
        .args(["--allow-file-access-from-files", "--window-size=1600,1000"])
        .args(["--virtual-time-budget=20000", &profile, "--dump-dom"])
        .arg(format!("file://{}", harness.display()))
        .stdin(Stdio::null())
        .stdout(fs::File::create(&out).unwrap())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let started = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if started.elapsed() > LIMIT {
            child.kill().unwrap();
            panic!("{} didn't end within {LIMIT:?}", program.display());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    let dom = fs::read_to_string(&out).unwrap();
    let (_, rest) = dom.split_once("<pre id=\"out\">").expect("the page of the harness");
    let (lines, _) = rest.split_once("</pre>").expect("the end of the lines");
    lines.replace("&amp;", "&")
}

#[test]
#[expect(clippy::print_stderr, reason = "says that it is skipped")]
fn a_page_works_in_a_browser_at_every_width() {
    let Some(program) = chromium() else {
        eprintln!("skipped: none of {} is installed and starts", NAMES.join(", "));
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("store")).unwrap();
    let source = folder.path().join("source");
    fs::create_dir(&source).unwrap();
    for image in 0..7 {
        image::RgbImage::from_pixel(40, 40, image::Rgb([30 * image as u8, 90, 30]))
            .save(source.join(path_of(image)))
            .unwrap();
    }
    for (count, images) in [(3, 40), (15, 450), (100, 1000), (1000, 3000)] {
        let classes = (0..count).map(|class| format!("class number {class}")).collect();
        let case = Case { classes, images, ..Case::default() };
        let record = stored(&case, &store, &source, 32);
        let html = page(&[Results::of(&record).with_store(&store)], Some(&overlays));
        fs::write(folder.path().join("page.html"), html).unwrap();
        for width in [1400, 400] {
            let lines = driven(&program, folder.path(), width);
            assert_snapshot(&format!("browser_{count}_classes_{width}"), &lines);
        }
    }
}
