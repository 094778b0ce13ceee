//! Pretrained weights: from a file, the web or an earlier run to a trained model, and how unusable
//! ones are refused.

use crate::support::{Desk, TINY, fetching, resnet18, starting_from};
use pipe::nn::{Head, Network, Weights, read_safetensors, write_safetensors};
use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

/// A file that torch wrote.
fn golden(name: &str) -> Vec<u8> {
    fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/nn/weights/golden").join(name))
        .unwrap()
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
    // The weights are no second model of the run.
    desk.ok(&["run", "start.toml", "--jobs", "1"]).snapshot("start_from_fetched_weights");
    assert!(desk.events(&["start.toml"]).with_outcome("ran").is_empty());
    desk.ok(&["predict", "@0", "images/0_disc.png"]);
    let ran = desk.pipe(&["run", "start.toml", "--set", "stages.train.backbone=resnet34"]);
    assert_eq!(ran.code, 1, "{ran}");
    ran.snapshot("weights_of_another_backbone");
}

/// Each tensor of a ResNet-18 is one of a ResNet-34's too.
#[test]
fn weights_of_a_deeper_network_are_not_taken_for_a_shallower_one() {
    let desk = Desk::tiny();
    let head = Head::Dense { hidden: vec![], dropout: 0.0, classes: 3 };
    let larger = Network::new("resnet34", &head, (32, 32), 7).unwrap();
    write_safetensors(&desk.path("larger.safetensors"), &larger.save()).unwrap();
    desk.write("start.toml", starting_from("path:larger.safetensors"));
    let run = ["run", "start.toml", "--jobs", "1"];
    let ran = desk.pipe(&run);
    assert_eq!(ran.code, 1, "{ran}");
    ran.snapshot("weights_of_a_deeper_backbone");
    // The same number of classes doesn't make the classifiers the same.
    desk.ok(&[&run[..], &["--set", "stages.train.backbone=resnet34"]].concat())
        .snapshot("start_with_a_new_head");
}

#[test]
fn prefixes_of_frameworks_are_removed_and_unknown_names_are_shown() {
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
    let run = ["run", "start.toml", "--jobs", "1"];
    desk.ok(&run).snapshot("start_from_prefixed_names");
    desk.write("start.toml", named("others.safetensors", &|name| format!("x{name}")));
    let ran = desk.pipe(&run);
    assert_eq!(ran.code, 1, "{ran}");
    ran.snapshot("weights_of_unknown_names");
}

#[test]
fn preprocess_completes_its_keys_from_timms_configuration() {
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
    desk.ok(&["run", "timm.toml", "--until", "train", "--jobs", "1"]).snapshot("start_from_timm");
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
    // A key in the file wins, and train reports that it differs.
    let given = ["timm.toml", "--until", "train", "--set", "stages.preprocess.size=32"];
    let preprocessing = input(&given)["preprocessing"].clone();
    assert_eq!(
        (&preprocessing["resize"], &preprocessing["mean"]),
        (&serde_json::json!(32), &expected["mean"])
    );
    desk.ok(&["log", "@0", "train"]).snapshot("log_of_preprocessing_that_differs_from_timms");
}

#[test]
fn unusable_weights_are_refused_with_their_file() {
    let desk = Desk::empty();
    let header = |text: &str, data: &[u8]| {
        [&(text.len() as u64).to_le_bytes()[..], text.as_bytes(), data].concat()
    };
    let one =
        |bytes: &[u8]| header(r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#, bytes);
    let overlapping = r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[1],"data_offsets":[2,6]}}"#;
    let pth = golden("zip.pth");
    for (name, content) in [
        ("cut.safetensors", one(&[0; 3])),
        ("overlap.safetensors", header(overlapping, &[0; 6])),
        ("nan.safetensors", one(&f32::NAN.to_le_bytes())),
        ("cut.pth", pth[..pth.len() - 100].to_vec()),
        ("nan.pth", golden("nan.pth")),
        ("evil.pth", golden("malicious.pth")),
        ("old.pth", golden("malicious_legacy.pth")),
        ("images.zip", b"PK\x03\x04".to_vec()),
    ] {
        desk.write(name, content);
        desk.write("w.toml", fetching(&format!("path:{name}")));
        let ran = desk.pipe(&["run", "w.toml"]);
        assert_eq!(ran.code, 1, "{ran}");
        ran.snapshot(&format!("unusable_{name}"));
    }
    assert!(!desk.path("executed").exists());
}

/// A file on the web: its ETag and content.
type Served = (String, Vec<u8>);

/// A web server: files by path, and the paths that were requested.
#[derive(Clone, Default)]
struct Web {
    files: Arc<Mutex<BTreeMap<String, Served>>>,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Web {
    /// Starts serving; returns the address.
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
        self.requests.lock().unwrap().push(path);
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

    fn requests(&self) -> Vec<String> {
        std::mem::take(&mut *self.requests.lock().unwrap())
    }
}

#[test]
fn a_file_on_the_web_is_pinned_until_refresh() {
    let (desk, web) = (Desk::empty(), Web::default());
    web.put("/w.pth", "one", golden("zip.pth"));
    desk.write("w.toml", fetching(&format!("{}/w.pth", web.serve())));
    let first = desk.events(&["w.toml"]);
    assert_eq!(first.with_outcome("ran"), ["weights"]);
    assert_eq!(web.requests(), ["/w.pth", "/w.pth"]);
    // The file at that address changes, which nobody checks.
    web.put("/w.pth", "two", golden("legacy_strided.pth"));
    assert_eq!(desk.events(&["w.toml"]).with_outcome("fresh"), ["weights"]);
    // Forced, the stage reuses the downloaded file.
    let again = desk.events(&["w.toml", "--force"]);
    assert_eq!(again.digests(), first.digests());
    assert!(web.requests().is_empty());
    let refreshed = desk.events(&["w.toml", "--refresh"]);
    assert_eq!(refreshed.with_outcome("ran"), ["weights"]);
    assert_ne!(refreshed.digests(), first.digests());
    refreshed.snapshot_reasons("reasons_after_a_refresh");
    web.requests();
    assert_eq!(desk.events(&["w.toml", "--refresh"]).with_outcome("fresh"), ["weights"]);
    assert_eq!(web.requests().len(), 1);
}

#[test]
fn timms_configuration_is_fetched_with_its_weights() {
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
    desk.snapshot("preprocessing.json", &known);
    // Another folder has no configuration, which is no error.
    let weights = web.files.lock().unwrap()["/a/model.safetensors"].1.clone();
    web.put("/b/model.safetensors", "w", weights);
    desk.write("w.toml", fetching(&format!("{address}/b/model.safetensors")));
    let digests = desk.events(&["w.toml"]).digests();
    assert!(!artifact(&desk, &digests, "weights", "preprocessing.json").exists());
}

#[test]
fn published_weights_come_from_a_mirror_and_are_checked() {
    let (desk, web) = (Desk::empty(), Web::default());
    web.put("/mirror/resnet50-0676ba61.pth", "x", golden("zip.pth"));
    let mirror = format!("{}/mirror/", web.serve());
    let run = |source: &str| {
        desk.write("w.toml", fetching(source));
        let mut command = desk.command(&["run", "w.toml"]);
        command.env("PIPE_TORCHVISION", &mirror);
        let ran = desk.output(command);
        assert_eq!(ran.code, 1, "{ran}");
        ran
    };
    run("torchvision:resnet50").snapshot("mirror_with_other_content");
    run("torchvision:resnet50/V2").snapshot("mirror_without_the_file");
    // Looking needs no network.
    web.requests();
    desk.ok(&["status", "w.toml"]).snapshot("status_without_the_network");
    assert!(web.requests().is_empty());
}

#[test]
fn impossible_sources_are_found_before_anything_runs() {
    let desk = Desk::tiny();
    let wrong = |name: &str, text: String| {
        desk.write("w.toml", text);
        let ran = desk.pipe(&["run", "w.toml"]);
        assert_eq!(ran.code, 2, "{ran}");
        ran.snapshot(name);
    };
    wrong("source_misspelled", fetching("torchvision:resnet5O"));
    wrong("source_without_tls", fetching("http://example.org/w.pth"));
    wrong("source_run_without_a_stage", fetching("run:abc"));
    wrong("source_run_before_there_is_one", fetching("run:@0/train"));
    wrong("source_for_another_backbone", starting_from("torchvision:resnet50"));
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
    desk.ok(&["run", "two.toml", "--until", "second"]).snapshot("start_from_another_stage");
    // Only the weights of the first training are an input: its other files are no reason to train
    // again.
    assert_eq!(desk.events(&["two.toml", "--until", "second"]).with_outcome("fresh").len(), 4);
}

#[test]
fn a_model_of_an_earlier_run_is_a_start() {
    let desk = Desk::trained();
    let id = desk.ok(&["runs", "--json"]).json()[0]["run"].as_str().unwrap().to_owned();
    desk.write("again.toml", starting_from(&format!("run:{id}/train")));
    desk.ok(&["run", "again.toml", "--until", "train", "--jobs", "1"])
        .snapshot("start_from_an_earlier_run");
    assert!(desk.events(&["again.toml", "--until", "train"]).with_outcome("ran").is_empty());
    // The reason of `weights` doesn't compare it with images that were fetched earlier.
    desk.ok(&["show", "@0"]).snapshot("show_a_start_from_an_earlier_run");
    // `@0` means another run after each run: a warning names the id.
    desk.write("again.toml", starting_from("run:@0/train"));
    desk.ok(&["status", "again.toml"]).snapshot("start_from_the_latest_run");
    for (name, stage) in
        [("start_from_an_unknown_stage", "tain"), ("start_from_a_stage_without_model", "explore")]
    {
        desk.write("again.toml", starting_from(&format!("run:{id}/{stage}")));
        let ran = desk.pipe(&["run", "again.toml"]);
        assert_eq!(ran.code, 2, "{ran}");
        ran.snapshot(name);
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
    ran.snapshot("original_head_of_another_stage");
}
