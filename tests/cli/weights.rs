//! Pretrained weights, from a file, the web or an earlier run to a trained model; and what is said where they are none.

use crate::support::{Desk, Ran, TINY};
use pipe::nn::{Cpu, Head, Network, Weights, read_safetensors, write_safetensors};
use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock};

/// A ResNet-18 with a classifier of five classes, as others publish theirs.
fn resnet18() -> &'static Path {
    static MADE: OnceLock<PathBuf> = OnceLock::new();
    MADE.get_or_init(|| {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("resnet18.safetensors");
        let head = Head::Dense { hidden: vec![], dropout: 0.0, classes: 5 };
        let network = Network::new("resnet18", &head, (32, 32), 7, Cpu::default()).unwrap();
        write_safetensors(&path, &network.save()).unwrap();
        path
    })
}

/// A file that torch wrote.
fn golden(name: &str) -> Vec<u8> {
    fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/nn/weights/golden").join(name))
        .unwrap()
}

/// A pipeline that fetches weights and does nothing else.
fn fetching(source: &str) -> String {
    format!("[stages.weights]\nkind = \"fetch\"\nsource = \"{source}\"\n")
}

/// [`TINY`] with a start from `source`.
fn starting_from(source: &str) -> String {
    let lines = "needs = { data = \"preprocess\", weights = \"weights\" }\nbackbone";
    let tiny = TINY.replace("needs = { data = \"preprocess\" }\nbackbone", lines);
    assert!(tiny.contains(lines));
    format!("{}\n{tiny}", fetching(source))
}

/// The file of an artifact.
fn artifact(desk: &Desk, digests: &BTreeMap<String, String>, stage: &str, file: &str) -> PathBuf {
    let digest = &digests[stage];
    desk.path("cache/v1/artifacts").join(&digest[..2]).join(digest).join(file)
}

#[test]
fn fetched_weights_are_a_start_and_others_are_recognized() {
    let desk = Desk::tiny();
    desk.write("start.toml", starting_from(&format!("path:{}", resnet18().display())));
    let ran = desk.ok(&["run", "start.toml"]);
    for said in [
        "weights of 102 tensors, 11.2 million numbers",
        "starting from fetched weights, whose classifier gives way to a new head",
        "accuracy",
    ] {
        assert!(ran.stderr.contains(said) || ran.stdout.contains(said), "{said}: {ran}");
    }
    assert!(desk.events(&["start.toml"]).with_outcome("ran").is_empty());
    // The weights are no second model of the run.
    assert_eq!(ran.stdout.matches("\nmodel ").count(), 1, "{ran}");
    assert!(desk.ok(&["predict", "@0", "images/0_disc.png"]).stdout.contains("images/0_disc.png"));
    let ran = desk.pipe(&["run", "start.toml", "--set", "stages.train.backbone=resnet34"]);
    assert_eq!(ran.code, 1, "{ran}");
    assert!(
        ran.stderr.contains("these weights are of resnet18, the backbone is resnet34"),
        "{ran}"
    );
    assert!(
        ran.stderr.contains("set `backbone = \"resnet18\"`, or take weights of resnet34"),
        "{ran}"
    );
}

/// Each tensor of a ResNet-18 is one of a ResNet-34's too.
#[test]
fn a_network_that_holds_all_of_another_is_not_taken_for_it() {
    let desk = Desk::tiny();
    let head = Head::Dense { hidden: vec![], dropout: 0.0, classes: 3 };
    let larger = Network::new("resnet34", &head, (32, 32), 7, Cpu::default()).unwrap();
    write_safetensors(&desk.path("larger.safetensors"), &larger.save()).unwrap();
    desk.write("start.toml", starting_from("path:larger.safetensors"));
    let ran = desk.pipe(&["run", "start.toml"]);
    assert_eq!(ran.code, 1, "{ran}");
    assert!(
        ran.stderr.contains("these weights are of resnet34, the backbone is resnet18"),
        "{ran}"
    );
    // As many classes don't make them the same.
    let ran = desk.ok(&["run", "start.toml", "--set", "stages.train.backbone=resnet34"]);
    assert!(ran.stderr.contains("whose classifier gives way to a new head"), "{ran}");
}

#[test]
fn what_frameworks_put_before_names_is_taken_off_and_other_names_are_shown() {
    let desk = Desk::tiny();
    let plain = read_safetensors::<f32>(resnet18()).unwrap();
    let named = |file: &str, name: &dyn Fn(&str) -> String| {
        let tensors =
            plain.tensors.iter().map(|(old, tensor)| (name(old), tensor.clone())).collect();
        write_safetensors(&desk.path(file), &Weights { tensors, ..Weights::default() }).unwrap();
        starting_from(&format!("path:{file}"))
    };
    desk.write(
        "start.toml",
        named("wrapped.safetensors", &|name| format!("_orig_mod.module.{name}")),
    );
    let ran = desk.ok(&["run", "start.toml"]);
    assert!(ran.stderr.contains("starting from fetched weights"), "{ran}");
    desk.write("start.toml", named("others.safetensors", &|name| format!("x{name}")));
    let ran = desk.pipe(&["run", "start.toml"]);
    assert_eq!(ran.code, 1, "{ran}");
    assert!(
        ran.stderr.contains("they hold 102 tensors, such as xbn1.bias and xbn1.running_mean"),
        "{ran}"
    );
}

#[test]
fn preprocess_takes_from_timms_configuration_what_is_not_given() {
    let desk = Desk::tiny();
    fs::create_dir(desk.path("timm")).unwrap();
    std::os::unix::fs::symlink(resnet18(), desk.path("timm/model.safetensors")).unwrap();
    let configuration = r#"{ "architecture": "resnet18", "pretrained_cfg": { "tag": "t_in1k", "input_size": [3, 32, 32],
        "interpolation": "bicubic", "crop_pct": 0.9, "crop_mode": "center", "mean": [0.1, 0.2, 0.3], "std": [0.5, 0.5, 0.25] } }"#;
    desk.write("timm/config.json", configuration);
    let text = starting_from("path:timm").replace(
        "[stages.preprocess]\nneeds = { images = \"fetch\" }\nsize = 32",
        "[stages.preprocess]\nneeds = { images = \"fetch\", weights = \"weights\" }",
    );
    desk.write("timm.toml", text);
    let until = ["run", "timm.toml", "--until", "train"];
    let ran = desk.ok(&until);
    assert!(ran.stderr.contains("starting from timm's resnet18.t_in1k, whose classifier"), "{ran}");
    assert!(!ran.stderr.contains("were made with"), "{ran}");
    let input = |arguments: &[&str]| -> serde_json::Value {
        let digests = desk.events(arguments).digests();
        serde_json::from_slice(
            &fs::read(artifact(&desk, &digests, "preprocess", "input.json")).unwrap(),
        )
        .unwrap()
    };
    let expected = serde_json::json!({ "resize": 35, "crop": 32, "fit": "crop", "interpolation": "bicubic",
        "mean": [0.1, 0.2, 0.3], "std": [0.5, 0.5, 0.25] });
    assert_eq!(input(&["timm.toml", "--until", "preprocess"])["preprocessing"], expected);
    // What is given wins, and train says that it is something else.
    let given = ["timm.toml", "--until", "train", "--set", "stages.preprocess.size=32"];
    let preprocessing = input(&given)["preprocessing"].clone();
    assert_eq!(
        (&preprocessing["resize"], &preprocessing["mean"]),
        (&serde_json::json!(32), &expected["mean"])
    );
    let log = desk.ok(&["log", "@0", "train"]);
    let warning = "timm's resnet18.t_in1k were made with images of 32 from 35 pixels, bicubic, mean 0.1 0.2 0.3";
    assert!(
        log.stdout.contains(warning)
            && log.stdout.contains("write in the preprocess stage: resize = 35"),
        "{log}"
    );
}

#[test]
fn weights_that_are_none_are_refused_with_their_file() {
    let desk = Desk::empty();
    let refused = |name: &str, content: &[u8]| -> Ran {
        desk.write(name, content);
        desk.write("w.toml", fetching(&format!("path:{name}")));
        let ran = desk.pipe(&["run", "w.toml"]);
        assert_eq!(ran.code, 1, "{ran}");
        assert!(ran.stderr.contains(&format!("{name}: ")), "{ran}");
        ran
    };
    let header = |text: &str, data: &[u8]| {
        [&(text.len() as u64).to_le_bytes()[..], text.as_bytes(), data].concat()
    };
    let one =
        |bytes: &[u8]| header(r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#, bytes);
    let overlapping = r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[1],"data_offsets":[2,6]}}"#;
    let pth = golden("zip.pth");
    for (name, content, said) in [
        ("cut.safetensors", one(&[0; 3]), "not a complete safetensors file"),
        ("overlap.safetensors", header(overlapping, &[0; 6]), "not a complete safetensors file"),
        ("nan.safetensors", one(&f32::NAN.to_le_bytes()), "a contains NaN at index 0"),
        ("cut.pth", pth[..pth.len() - 100].to_vec(), "it is cut short or damaged"),
        ("nan.pth", golden("nan.pth"), "fc.bias contains NaN at index 1"),
        (
            "evil.pth",
            golden("malicious.pth"),
            "it asks for `posix.system`, which builds no tensor: nothing of it was run",
        ),
        (
            "old.pth",
            golden("malicious_legacy.pth"),
            "torch.save(model.state_dict(), \"weights.pth\")",
        ),
        ("images.zip", b"PK\x03\x04".to_vec(), "unpack archives first"),
    ] {
        let ran = refused(name, &content);
        assert!(ran.stderr.contains(said), "{name}: {ran}");
    }
    assert!(!desk.path("executed").exists());
}

/// A file on the web: the mark of its version, and its content.
type Served = (String, Vec<u8>);

/// Files by path, and what was asked for.
#[derive(Clone, Default)]
struct Web {
    files: Arc<Mutex<BTreeMap<String, Served>>>,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Web {
    /// Begins to serve; returns the address.
    fn serve(&self) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let web = self.clone();
        std::thread::spawn(move || {
            listener.incoming().for_each(|stream| web.answer(&mut stream.unwrap()))
        });
        address
    }

    fn put(&self, path: &str, etag: &str, content: Vec<u8>) {
        self.files.lock().unwrap().insert(path.to_owned(), (etag.to_owned(), content));
    }

    fn answer(&self, stream: &mut TcpStream) {
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|count| count == 1) {
            head.push(byte[0]);
        }
        let head = String::from_utf8(head).unwrap();
        let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
        let found = self.files.lock().unwrap().get(&path).cloned();
        self.asked.lock().unwrap().push(path);
        let _ = match found {
            Some((etag, content)) => {
                let head = format!(
                    "HTTP/1.1 200 OK\r\nETag: \"{etag}\"\r\nContent-Length: {}\r\n\r\n",
                    content.len()
                );
                stream.write_all(&[head.as_bytes(), &content].concat())
            }
            None => stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"),
        };
    }

    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut *self.asked.lock().unwrap())
    }
}

#[test]
fn a_file_on_the_web_is_pinned_at_the_first_look_and_asked_for_anew_with_refresh() {
    let (desk, web) = (Desk::empty(), Web::default());
    web.put("/w.pth", "one", golden("zip.pth"));
    desk.write("w.toml", fetching(&format!("{}/w.pth", web.serve())));
    let first = desk.events(&["w.toml"]);
    assert_eq!(first.with_outcome("ran"), ["weights"]);
    assert_eq!(web.asked(), ["/w.pth", "/w.pth"]);
    // Something else lies there now: nobody asks.
    web.put("/w.pth", "two", golden("legacy_strided.pth"));
    assert_eq!(desk.events(&["w.toml"]).with_outcome("fresh"), ["weights"]);
    // Made again from what was downloaded.
    let again = desk.events(&["w.toml", "--force"]);
    assert_eq!(again.digests(), first.digests());
    assert!(web.asked().is_empty());
    let refreshed = desk.events(&["w.toml", "--refresh"]);
    assert_eq!(refreshed.with_outcome("ran"), ["weights"]);
    assert_ne!(refreshed.digests(), first.digests());
    assert!(
        refreshed.reasons("weights")[0].starts_with("version: "),
        "{:?}",
        refreshed.reasons("weights")
    );
    web.asked();
    assert_eq!(desk.events(&["w.toml", "--refresh"]).with_outcome("fresh"), ["weights"]);
    assert_eq!(web.asked().len(), 1);
}

#[test]
fn timms_configuration_comes_along_from_the_web() {
    let (desk, web) = (Desk::empty(), Web::default());
    let weights = pipe::nn::weights::read(
        &Path::new(env!("CARGO_MANIFEST_DIR")).join("src/nn/weights/golden/zip.pth"),
    );
    web.put("/a/model.safetensors", "w", pipe::nn::weights::to_bytes(&weights.unwrap()).unwrap());
    let configuration = r#"{"architecture":"x","pretrained_cfg":{"input_size":[3,64,64],"mean":[0,0,0],"std":[1,1,1]}}"#;
    web.put("/a/config.json", "c", configuration.into());
    let address = web.serve();
    desk.write("w.toml", fetching(&format!("{address}/a/model.safetensors")));
    let digests = desk.events(&["w.toml"]).digests();
    let known =
        fs::read_to_string(artifact(&desk, &digests, "weights", "preprocessing.json")).unwrap();
    assert!(known.contains("\"resize\": 73") && known.contains("timm's x"), "{known}");
    // Elsewhere there is none, which is no mistake.
    let weights = web.files.lock().unwrap()["/a/model.safetensors"].1.clone();
    web.put("/b/model.safetensors", "w", weights);
    desk.write("w.toml", fetching(&format!("{address}/b/model.safetensors")));
    let digests = desk.events(&["w.toml"]).digests();
    assert!(!artifact(&desk, &digests, "weights", "preprocessing.json").exists());
}

#[test]
fn published_weights_come_from_a_mirror_and_are_what_they_should_be() {
    let (desk, web) = (Desk::empty(), Web::default());
    web.put("/mirror/resnet50-0676ba61.pth", "x", golden("zip.pth"));
    let mirror = format!("{}/mirror/", web.serve());
    let run = |source: &str| {
        desk.write("w.toml", fetching(source));
        Ran::from(
            desk.command(&["run", "w.toml"]).env("PIPE_TORCHVISION", &mirror).output().unwrap(),
        )
    };
    let ran = run("torchvision:resnet50");
    assert_eq!(ran.code, 1, "{ran}");
    assert!(
        ran.stderr.contains(&format!("{mirror}resnet50-0676ba61.pth has the SHA-256 ")),
        "{ran}"
    );
    assert!(ran.stderr.contains(", expected 0676ba61"), "{ran}");
    let ran = run("torchvision:resnet50/V2");
    assert_eq!(ran.code, 1, "{ran}");
    assert!(
        ran.stderr
            .contains(&format!("failed to download {mirror}resnet50-11ad3fa6.pth: not found")),
        "{ran}"
    );
    // Looking needs no network.
    web.asked();
    let status = desk.ok(&["status", "w.toml"]);
    assert!(status.stdout.contains("never ran before") && web.asked().is_empty(), "{status}");
}

#[test]
fn sources_that_cannot_be_meant_are_found_before_anything_runs() {
    let desk = Desk::tiny();
    let wrong = |text: &str, said: &[&str]| {
        desk.write("w.toml", text);
        let ran = desk.pipe(&["run", "w.toml"]);
        assert_eq!(ran.code, 2, "{ran}");
        said.iter().for_each(|said| assert!(ran.stderr.contains(said), "{said}: {ran}"));
    };
    wrong(
        &fetching("torchvision:resnet5O"),
        &["no weights called `resnet5O`", "did you mean `torchvision:resnet50`?"],
    );
    wrong(&fetching("http://example.org/w.pth"), &["`http:` to example.org is not secure"]);
    wrong(&fetching("https://example.org/images.zip"), &["`images.zip` isn't a file of weights"]);
    wrong(&fetching("run:abc"), &["`run:k3x9qa/train`"]);
    wrong(&fetching("run:@0/train"), &["there is no run yet"]);
    let other = starting_from("torchvision:resnet50");
    wrong(&other, &["the stage `weights` fetches weights of resnet50, the backbone is resnet18"]);
}

#[test]
fn another_train_stage_is_a_start() {
    let desk = Desk::tiny();
    let train =
        &TINY[TINY.find("[stages.train]").unwrap()..TINY.find("[stages.evaluate]").unwrap()];
    let second = train.replace("[stages.train]", "[stages.second]\nkind = \"train\"");
    let second = second
        .replace("{ data = \"preprocess\" }", "{ data = \"preprocess\", weights = \"train\" }");
    desk.write("two.toml", format!("{TINY}\n{second}"));
    let ran = desk.ok(&["run", "two.toml", "--until", "second"]);
    assert!(
        ran.stderr.contains("starting from the weights of a trained resnet18, head included"),
        "{ran}"
    );
    // What upstream says of itself beside its weights is no reason to train again.
    let why = desk.ok(&["why", "two.toml", "second"]);
    assert!(why.stdout.contains("fresh"), "{why}");
}

#[test]
fn a_model_of_an_earlier_run_is_a_start() {
    let desk = Desk::trained();
    let id = desk.ok(&["runs", "--json"]).json()[0]["run"].as_str().unwrap().to_owned();
    desk.write("again.toml", starting_from(&format!("run:{id}/train")));
    let ran = desk.ok(&["run", "again.toml", "--until", "train"]);
    assert!(
        ran.stderr.contains("starting from the weights of a trained resnet18, head included"),
        "{ran}"
    );
    assert!(desk.events(&["again.toml", "--until", "train"]).with_outcome("ran").is_empty());
    let show = desk.ok(&["show", "@0"]).stdout;
    // Images that were fetched earlier explain no weights.
    let why = show.lines().find(|line| line.starts_with("weights "));
    assert!(why.is_some_and(|line| line.ends_with("  never ran before")), "{show}");
    let source = show.lines().find(|line| line.starts_with("weights.source"));
    assert!(source.is_some_and(|line| line.ends_with(&format!("\"run:{id}/train\""))), "{show}");
    // A name that moves on is warned of, with the one that doesn't.
    desk.write("again.toml", starting_from("run:@0/train"));
    let ran = desk.ok(&["status", "again.toml"]);
    assert!(ran.stderr.contains("changes its meaning with every run, now"), "{ran}");
    for (source, said) in [
        (format!("run:{id}/tain"), "has no stage `tain`"),
        (format!("run:{id}/explore"), "stage `explore` of run"),
    ] {
        desk.write("again.toml", starting_from(&source));
        let ran = desk.pipe(&["run", "again.toml"]);
        assert_eq!(ran.code, 2, "{ran}");
        assert!(ran.stderr.contains(said), "{ran}");
    }
}

#[test]
fn the_original_classifier_is_a_published_one() {
    let desk = Desk::tiny();
    let train =
        &TINY[TINY.find("[stages.train]").unwrap()..TINY.find("[stages.evaluate]").unwrap()];
    let second =
        train.replace("[stages.train]", "[stages.second]\nkind = \"train\"\nhead = \"original\"");
    let second = second
        .replace("{ data = \"preprocess\" }", "{ data = \"preprocess\", weights = \"train\" }");
    desk.write("two.toml", format!("{TINY}\n{second}"));
    let ran = desk.pipe(&["run", "two.toml"]);
    assert_eq!(ran.code, 2, "{ran}");
    assert!(
        ran.stderr.contains(
            "the stage `train` trains a head of its own: no published classifier is left"
        ),
        "{ran}"
    );
}
