//! A user's desk for the tests: a temporary folder with images and pipeline files in it, and `pipe` run there. Knows
//! the command line as a user does, and nothing of the rooms behind it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// A pipeline that runs in seconds: images in `images/`, three classes in their names.
pub const TINY: &str = r#"[dataset]
labels = { from = "file_name", pattern = '^(?<index>\d+)_(?<class>\w+)$' }
split = { method = "exact", train = 0.5, validation = 0.25, test = 0.25 }

[stages.fetch]
source = "path:images"

[stages.explore]
needs = { images = "fetch" }

[stages.preprocess]
needs = { images = "fetch" }
size = 32

[stages.train]
needs = { data = "preprocess" }
backbone = "resnet18"
epochs = 1
batch_size = 8
schedule = { warmup_epochs = 0 }

[stages.evaluate]
needs = { data = "preprocess", model = "train" }
"#;

/// The stages of [`TINY`] in the order in which they run.
pub const STAGES: [&str; 5] = ["fetch", "explore", "preprocess", "train", "evaluate"];

/// The folder a user stands in.
pub struct Desk {
    folder: PathBuf,
    /// Removes the folder in the end.
    _kept: Option<tempfile::TempDir>,
}

/// What a command did.
#[derive(Debug)]
pub struct Ran {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Desk {
    /// An empty folder.
    pub fn empty() -> Desk {
        let folder = tempfile::tempdir().unwrap();
        Desk { folder: folder.path().to_owned(), _kept: Some(folder) }
    }

    /// [`TINY`] as `tiny.toml`, with 8 images of each of three classes in `images/`.
    pub fn tiny() -> Desk {
        let desk = Desk::empty();
        desk.write("tiny.toml", TINY);
        desk.images("images", &["disc", "bar", "frame"], 8);
        desk
    }

    /// [`Desk::tiny`] after `pipe run tiny.toml`. It is run once, and every test gets a copy.
    pub fn trained() -> Desk {
        static TRAINED: OnceLock<PathBuf> = OnceLock::new();
        let original = TRAINED.get_or_init(|| {
            let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("trained");
            if folder.exists() {
                fs::remove_dir_all(&folder).unwrap();
            }
            let desk = Desk { folder: folder.clone(), _kept: None };
            desk.write("tiny.toml", TINY);
            desk.images("images", &["disc", "bar", "frame"], 8);
            desk.ok(&["run", "tiny.toml"]);
            folder
        });
        let desk = Desk::empty();
        // With its times: a store notices files that were written since.
        let copied = Command::new("cp")
            .arg("-a")
            .arg(original.join("."))
            .arg(&desk.folder)
            .status()
            .unwrap();
        assert!(copied.success());
        desk
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    pub fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    /// Replaces `from`, which must be there, in a file.
    pub fn edit(&self, name: &str, from: &str, to: &str) {
        let text = self.read(name);
        assert!(text.contains(from), "{name} has no {from:?}");
        self.write(name, text.replace(from, to));
    }

    /// Writes `each` images of every class as `FOLDER/index_class.png`.
    pub fn images(&self, folder: &str, classes: &[&str], each: u32) {
        fs::create_dir_all(self.path(folder)).unwrap();
        for index in 0..each {
            for (class, name) in classes.iter().enumerate() {
                let number = index * classes.len() as u32 + class as u32;
                draw(class, number)
                    .save(self.path(folder).join(format!("{number}_{name}.png")))
                    .unwrap();
            }
        }
    }

    /// A `pipe` command here, with nothing of the surrounding environment that could change what it does.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pipe"));
        command.args(arguments).current_dir(&self.folder).stdin(Stdio::null());
        for variable in [
            "PIPE_CACHE",
            "PIPE_EXE",
            "NO_COLOR",
            "CLICOLOR_FORCE",
            "CLICOLOR",
            "COLUMNS",
            "PIPE_TORCHVISION",
        ] {
            command.env_remove(variable);
        }
        command
    }

    /// Runs `pipe` here.
    pub fn pipe(&self, arguments: &[&str]) -> Ran {
        Ran::from(self.command(arguments).output().unwrap())
    }

    /// Runs `pipe` here and expects it to do what was asked.
    pub fn ok(&self, arguments: &[&str]) -> Ran {
        let ran = self.pipe(arguments);
        assert_eq!(ran.code, 0, "pipe {}: {ran}", arguments.join(" "));
        ran
    }

    /// `pipe run` with `--json`, expected to go well: its events.
    pub fn events(&self, arguments: &[&str]) -> Events {
        let mut all = vec!["run"];
        all.extend(arguments);
        all.push("--json");
        self.ok(&all).events()
    }

    /// Starts `pipe` here and leaves it running.
    pub fn start(&self, arguments: &[&str]) -> Child {
        self.command(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }
}

impl From<Output> for Ran {
    fn from(output: Output) -> Ran {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        Ran {
            code: output.status.code().unwrap_or(-1),
            stdout: text(&output.stdout),
            stderr: text(&output.stderr),
        }
    }
}

impl std::fmt::Display for Ran {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "exit code {}\n--- stdout\n{}--- stderr\n{}---",
            self.code, self.stdout, self.stderr
        )
    }
}

impl Ran {
    /// Standard output as one JSON document.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self}"))
    }

    /// Standard output as JSON lines.
    pub fn events(&self) -> Events {
        let lines = self.stdout.lines();
        Events(
            lines
                .map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}: {self}")))
                .collect(),
        )
    }
}

/// The JSON lines of a run.
pub struct Events(pub Vec<serde_json::Value>);

impl Events {
    /// Stage -> a field of its `stage-finished`.
    fn finished(&self, field: &str) -> BTreeMap<String, String> {
        let ends = self.0.iter().filter(|event| event["event"] == "stage-finished");
        let text = |value: &serde_json::Value| value.as_str().unwrap_or("none").to_owned();
        ends.map(|event| (text(&event["stage"]), text(&event[field]))).collect()
    }

    /// The stages that ended in `outcome`, in alphabetical order.
    pub fn with_outcome(&self, outcome: &str) -> Vec<String> {
        self.finished("outcome")
            .into_iter()
            .filter(|(_, found)| found == outcome)
            .map(|(stage, _)| stage)
            .collect()
    }

    /// Stage -> digest of its artifact.
    pub fn digests(&self) -> BTreeMap<String, String> {
        self.finished("digest")
    }

    /// Why a stage ran.
    pub fn reasons(&self, stage: &str) -> Vec<String> {
        let start = self
            .0
            .iter()
            .find(|event| event["event"] == "stage-started" && event["stage"] == stage);
        let start = start.unwrap_or_else(|| panic!("{stage} did not start"));
        start["reasons"]
            .as_array()
            .unwrap()
            .iter()
            .map(|reason| reason.as_str().unwrap().to_owned())
            .collect()
    }

    /// The last event.
    pub fn end(&self) -> &serde_json::Value {
        self.0.last().unwrap()
    }
}

/// An image of 40 x 36: a disc, a bar or a frame, bright on dark, somewhere near the middle. The number moves it and
/// changes its colors, so that no two images are equal.
fn draw(class: usize, number: u32) -> image::RgbImage {
    let noise = |salt: u32| {
        (number.wrapping_mul(2_654_435_761).wrapping_add(salt.wrapping_mul(40_503)) >> 16) % 7
    };
    let (x0, y0) = (17.0 + f64::from(noise(1)), 15.0 + f64::from(noise(2)));
    let back = 10 + 8 * noise(3) as u8;
    let front = 160 + 12 * noise(4) as u8;
    image::RgbImage::from_fn(40, 36, |x, y| {
        let (dx, dy) = ((f64::from(x) - x0).abs(), (f64::from(y) - y0).abs());
        let inside = match class % 3 {
            0 => dx * dx + dy * dy < 64.0,
            1 => dx < 14.0 && dy < 4.0,
            _ => dx.max(dy) < 11.0 && dx.max(dy) > 7.0,
        };
        let level = if inside { front } else { back };
        image::Rgb([level, level / 2 + 10 * class as u8, back + (number % 40) as u8])
    })
}

/// Durations and ids, which differ from run to run, as `TIME` and `ID`; the desk's folder as `DESK`.
pub fn steady(text: &str, desk: &Desk) -> String {
    let folder = desk.folder.canonicalize().unwrap();
    let text = text
        .replace(&*folder.to_string_lossy(), "DESK")
        .replace(&*desk.folder.to_string_lossy(), "DESK");
    let time = regex::Regex::new(r"\b(\d+ h \d\d min|\d+ min \d\d s|\d+\.\d+ s)").unwrap();
    time.replace_all(&text, "TIME").into_owned()
}

/// Waits until `done`, or fails after `limit`.
pub fn wait_for(what: &str, limit: Duration, mut done: impl FnMut() -> bool) {
    let since = Instant::now();
    while !done() {
        assert!(since.elapsed() < limit, "waited {limit:?} for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
