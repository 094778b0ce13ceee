//! Data sets and weights of the Hugging Face Hub: the layouts, pins, credentials and refusals.

use crate::hub::{Hub, Repository, SECRET, folders, image_folder, one, pipeline, png};
use crate::packed::{Files, tar, zip};
use crate::server::Response;
use crate::support::{Desk, Events, containing, fetching, resnet18, tiny_of};
use std::fs;
use std::path::Path;

fn golden(name: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/data/parquet/golden");
    fs::read(folder.join(name)).unwrap()
}

/// The files below the images of the fetched artifact.
fn files_of(desk: &Desk, events: &Events) -> Vec<String> {
    let files = desk.fetched_files(events).into_iter();
    files.filter_map(|file| Some(file.strip_prefix("images/")?.to_owned())).collect()
}

#[test]
fn folders_of_images_are_pinned_to_a_commit() {
    let (desk, hub) = (pipeline("hf:o/n"), Hub::start(image_folder()));
    let ran = hub.run(&desk, &["h.toml"]);
    ran.snapshot("first_run");
    desk.snapshot("lock", &desk.read("pipe.lock"));
    let mut asked = hub.asked();
    asked[3..].sort();
    desk.snapshot("requests", &(asked.join("\n") + "\n"));
    let events = hub.run(&desk, &["h.toml", "--json"]).events();
    assert_eq!(events.with_outcome("fresh"), ["fetch"]);
    assert_eq!(files_of(&desk, &events), ["cat/0.png", "cat/1.png", "dog/0.png", "dog/1.png"]);
    // A new commit is noticed only when asked for, and what is known isn't downloaded again.
    {
        let mut current = hub.current.lock().unwrap();
        current.commit = "d1".repeat(20);
        current.files.insert("dog/2.png".to_owned(), png(2, 9));
    }
    assert!(hub.asked().is_empty());
    let refreshed = hub.run(&desk, &["h.toml", "--refresh", "--json"]).events();
    refreshed.snapshot_reasons("reasons_of_a_new_commit");
    assert_eq!(files_of(&desk, &refreshed).len(), 5);
    let resolved = hub.asked().into_iter().filter(|path| path.contains("/resolve/"));
    assert_eq!(resolved.count(), 1);
    // The same by other names.
    for source in [
        "hf:datasets/o/n",
        "https://huggingface.co/datasets/o/n/tree/main",
        &format!("hf:o/n@{}", "d1".repeat(20)),
    ] {
        let set = format!("stages.fetch.source={source}");
        let events = hub.run(&desk, &["h.toml", "--set", &set, "--json"]).events();
        assert_eq!(events.with_outcome("fresh"), ["fetch"], "{source}");
    }
}

#[test]
fn each_layout_gives_folders_of_splits_and_classes() {
    let sample = |name: &str, class: &str, row: u32| {
        [one(&format!("{name}.png"), png(1, row)), one(&format!("{name}.cls"), class)]
    };
    let shard = |rows: std::ops::Range<u32>| {
        tar(&rows
            .flat_map(|row| sample(&format!("{row:04}"), &(row % 2).to_string(), row))
            .collect())
    };
    let card = r#"{"dataset_info":{"features":[{"name":"label","dtype":{"class_label":{"names":{"0":"cat","1":"dog"}}}}]}}"#;
    // Files of equal names and other content.
    let part = |first: u32, table: bool| {
        let mut files: Files = folders("", 2);
        files.iter_mut().for_each(|(_, content)| *content = png(first, content.len() as u32));
        files[0].1 = png(first, 77);
        if table {
            files.push(one("metadata.csv", "file_name,label\ncat/0.png,x\n"));
        }
        zip(&files)
    };
    let cases: [(&str, Files, &str); 8] = [
        (
            "archives_of_a_split",
            vec![
                one("data/train-00.zip", part(1, false)),
                one("data/train-01.zip", part(2, false)),
                one("data/test.zip", part(3, false)),
            ],
            "{}",
        ),
        (
            "archives_with_tables",
            vec![one("train-0.zip", part(1, true)), one("train-1.zip", part(2, true))],
            "{}",
        ),
        (
            "parts_of_a_set",
            vec![one("part1.zip", part(1, false)), one("part2.zip", zip(&folders("", 3)))],
            "{}",
        ),
        (
            "archives",
            vec![
                one("data/train.zip", zip(&folders("", 2))),
                one("data/validation.zip", zip(&folders("", 1))),
                one("sample.png", png(3, 3)),
            ],
            "{}",
        ),
        (
            "parquet",
            vec![
                one("data/train-00000-of-00001.parquet", golden("train.parquet")),
                one("data/test-00000-of-00001.parquet", golden("test.parquet")),
            ],
            "{}",
        ),
        ("parquet_with_columns", vec![one("wide.parquet", golden("wide.parquet"))], "{}"),
        (
            "web_dataset",
            vec![
                one("train-0.tar", shard(0..3)),
                one("train-1.tar", shard(3..5)),
                one("test-0.tar", shard(5..7)),
            ],
            card,
        ),
        (
            "web_dataset_with_a_list",
            vec![one("test/0.tar", shard(0..2)), one("classnames.txt", "a cat\na/dog\n")],
            "{}",
        ),
    ];
    for (name, files, card) in cases {
        let repository = Repository { card: card.to_owned(), ..Repository::new("datasets", files) };
        let (desk, hub) = (pipeline("hf:o/n"), Hub::start(repository));
        let ran = hub.run(&desk, &["h.toml"]);
        assert_eq!(ran.code, 0, "{name}: {ran}");
        let events = hub.run(&desk, &["h.toml", "--json"]).events();
        let files = files_of(&desk, &events).join("\n");
        ran.snapshot(&format!("run_of_{name}"));
        desk.snapshot(&format!("files_of_{name}"), &(files + "\n"));
    }
}

#[test]
fn tables_beside_images_are_joined_and_label_them() {
    let table = |rows: std::ops::Range<u32>| {
        let lines =
            rows.map(|row| format!("{row}.png,{}\n", if row % 2 == 0 { "even" } else { "odd" }));
        format!("file_name,label\n{}", lines.collect::<String>())
    };
    let mut files: Files = Vec::new();
    for (split, rows) in [("train", 0..8), ("test", 8..12)] {
        files.push(one(&format!("{split}/metadata.csv"), table(rows.clone())));
        files.extend(rows.map(|row| one(&format!("{split}/{row}.png"), png(1 + row % 2, row))));
    }
    let hub = Hub::start(Repository::new("datasets", files));
    let desk = Desk::empty();
    desk.write(
        "h.toml",
        "[dataset]\nlabels = { from = \"csv\", file = \"metadata.csv\" }\nsplit = { from = \"folder\", validation = 0.25 }\n\n[stages.fetch]\nsource = \"hf:o/n\"\n\n[stages.preprocess]\nneeds = { images = \"fetch\" }\nsize = 32\n",
    );
    let ran = hub.run(&desk, &["h.toml", "--jobs", "1"]);
    assert_eq!(ran.code, 0, "{ran}");
    ran.snapshot("run_with_joined_tables");
}

#[test]
fn a_configuration_and_splits_are_chosen() {
    let card = r#"{"configs":[
        {"config_name":"small","data_files":[{"split":"train","path":"s/train*"},{"split":"test","path":"s/test*"}]},
        {"config_name":"large","data_files":"l/*.parquet"}]}"#;
    let files = vec![
        one("s/train.parquet", golden("train.parquet")),
        one("s/test.parquet", golden("test.parquet")),
        one("l/0.parquet", golden("train.parquet")),
    ];
    let repository = Repository { card: card.to_owned(), ..Repository::new("datasets", files) };
    let (desk, hub) = (pipeline("hf:o/n"), Hub::start(repository));
    let with = |sets: &[&str]| {
        let sets = sets.iter().flat_map(|set| ["--set", set]);
        let arguments: Vec<&str> = ["h.toml"].into_iter().chain(sets).collect();
        hub.run(&desk, &arguments)
    };
    with(&[]).snapshot("no_configuration_is_chosen");
    with(&["stages.fetch.config=medium"]).snapshot("another_configuration_is_chosen");
    with(&["stages.fetch.config=small"]).snapshot("a_configuration_is_chosen");
    let (small, test) = ("stages.fetch.config=small", "stages.fetch.splits=[\"test\"]");
    with(&[small, test]).snapshot("a_split_is_chosen");
    with(&[small, "stages.fetch.splits=[\"dev\"]"]).snapshot("another_split_is_chosen");
    with(&["stages.fetch.source=path:h.toml", small]).snapshot("a_configuration_of_a_path");
}

#[test]
fn the_token_is_sent_to_the_hub_alone() {
    let bearer = format!("Bearer {SECRET}");
    let path = format!("{SECRET}\n");
    type Case<'a> = (&'a [(&'a str, &'a str)], &'a [(&'a str, &'a str)]);
    let cases: [Case; 5] = [
        (&[], &[("HF_TOKEN", SECRET)]),
        (&[], &[("HUGGING_FACE_HUB_TOKEN", SECRET)]),
        (&[("t.txt", &path)], &[("HF_TOKEN_PATH", "t.txt")]),
        (&[("hf-home/token", &path)], &[]),
        (&[("home/.cache/huggingface/token", &path)], &[("HF_HOME", "")]),
    ];
    let mut repository = Repository::new("datasets", folders("", 1));
    repository.files.insert("train.zip".into(), zip(&folders("", 3)));
    for (files, variables) in cases {
        let desk = pipeline("hf:o/n");
        files.iter().for_each(|(path, text)| desk.write(path, text));
        let expected = bearer.clone();
        let hub = Hub::with(
            repository.clone(),
            move |request, _| {
                let is_owner = request.header("authorization") == Some(&expected);
                // A renamed repository: the same host, so that it sees the token, too.
                let renamed = request.path.strip_prefix("/api/datasets/o/n/revision/");
                match (is_owner, renamed) {
                    (false, _) => {
                        Some(Response::status(401).header("X-Error-Code", "RepoNotFound"))
                    }
                    (true, Some("main")) => {
                        let to = format!("/api/datasets/o/n/revision/{}", "c0".repeat(20));
                        Some(Response::redirect(&to))
                    }
                    (true, _) => None,
                }
            },
            |_, _| None,
        );
        let mut command = hub.command(&desk, &["run", "h.toml", "--json"]);
        command.envs(variables.iter().copied());
        let ran = desk.output(command);
        assert_eq!(ran.code, 0, "{variables:?}: {ran}");
        assert!(!format!("{ran}").contains(SECRET));
        for place in ["cache", "pipe.lock"] {
            assert_eq!(containing(&desk.path(place), SECRET), Vec::<String>::new());
        }
        assert!(!hub.storage.requests().is_empty());
        assert_eq!(containing(&desk.path("cache"), "s1gned"), Vec::<String>::new());
    }
}

#[test]
fn a_clone_gets_the_commit_of_the_lock() {
    let (original, hub) = (pipeline("hf:o/n"), Hub::start(image_folder()));
    assert_eq!(hub.run(&original, &["h.toml"]).code, 0);
    let lock = original.read("pipe.lock");
    let digest = |desk: &Desk| {
        let ran = hub.run(desk, &["h.toml", "--locked", "--json"]);
        assert_eq!(ran.code, 0, "{ran}");
        ran.events().digests()["fetch"].clone()
    };
    let first = digest(&original);
    let clone = pipeline("hf:o/n");
    clone.write("pipe.lock", &lock);
    hub.asked();
    assert_eq!(digest(&clone), first);
    assert!(
        hub.asked().iter().all(|path| !path.ends_with("/main")),
        "only the commit is asked for"
    );
    assert_eq!(clone.read("pipe.lock"), lock);
    // Other files at the same commit, as only a wrong server has them.
    hub.current.lock().unwrap().files.insert("dog/9.png".to_owned(), png(2, 9));
    let late = pipeline("hf:o/n");
    late.write("pipe.lock", &lock);
    hub.run(&late, &["h.toml", "--locked"]).snapshot("locked_content_is_another");
    // The commit isn't there any more.
    hub.current.lock().unwrap().commit = "e2".repeat(20);
    let gone = pipeline("hf:o/n");
    gone.write("pipe.lock", &lock);
    hub.run(&gone, &["h.toml", "--locked"]).snapshot("locked_commit_is_gone");
    let ran = hub.run(&original, &["h.toml", "--locked", "--refresh"]);
    ran.snapshot("locked_refresh_of_a_changed_source");
}

/// A small ResNet-18 with timm's file beside it.
fn weights() -> Files {
    let configuration = r#"{ "architecture": "resnet18", "pretrained_cfg": { "tag": "t_in1k", "input_size": [3, 32, 32],
        "interpolation": "bicubic", "crop_pct": 0.9, "crop_mode": "center", "mean": [0.1, 0.2, 0.3], "std": [0.5, 0.5, 0.25] } }"#;
    vec![
        one("model.safetensors", fs::read(resnet18()).unwrap()),
        one("config.json", configuration),
        one("README.md", "# weights"),
        one("pytorch_model.bin", "unused"),
    ]
}

#[test]
fn weights_of_a_gated_model_come_with_their_preprocessing() {
    let files = weights();
    let expected = format!("Bearer {SECRET}");
    let hub = Hub::with(
        Repository::new("models", files),
        move |request, _| {
            let is_refused = request.path.contains("/resolve/")
                && request.header("authorization") != Some(&expected);
            is_refused.then(|| Response::status(401).header("X-Error-Code", "GatedRepo"))
        },
        |_, _| None,
    );
    let desk = Desk::empty();
    desk.write("w.toml", fetching("hf:o/n"));
    let ran = hub.run(&desk, &["w.toml"]);
    assert_eq!(ran.code, 1, "{ran}");
    ran.snapshot("weights_without_a_token");
    let mut command = hub.command(&desk, &["run", "w.toml"]);
    command.env("HF_TOKEN", SECRET);
    let ran = desk.output(command);
    assert_eq!(ran.code, 0, "{ran}");
    ran.snapshot("weights_with_a_token");
    desk.snapshot("lock_of_weights", &desk.read("pipe.lock"));
    let page = "stages.weights.source=https://huggingface.co/o/n/resolve/main/README.md";
    let mut command = hub.command(&desk, &["run", "w.toml", "--set", page]);
    command.env("HF_TOKEN", SECRET);
    desk.output(command).snapshot("no_weights");
}

#[test]
fn init_fetches_a_data_set_and_writes_a_file_that_runs() {
    let files = vec![
        one("data/train-00000-of-00001.parquet", golden("train.parquet")),
        one("data/test-00000-of-00001.parquet", golden("test.parquet")),
    ];
    let (desk, hub) = (Desk::empty(), Hub::start(Repository::new("datasets", files)));
    let init =
        |arguments: &[&str]| desk.output(hub.command(&desk, &[&["init"], arguments].concat()));
    init(&["hf:o/n", "--scratch"]).snapshot("init");
    desk.snapshot("init_of_a_data_set", &desk.read("n.toml"));
    // What was fetched isn't fetched again, and the first run writes the lock.
    hub.asked();
    let ran = hub.run(&desk, &["n.toml", "--until", "preprocess", "--json"]);
    assert_eq!(ran.code, 0, "{ran}");
    assert_eq!(ran.events().with_outcome("fresh"), ["fetch"]);
    assert!(hub.asked().is_empty() && desk.path("pipe.lock").is_file());
    init(&["hf:o/n", "--config", "x", "--output", "x.toml"])
        .snapshot("init_of_a_missing_configuration");
    init(&["hg:o/n"]).snapshot("init_of_an_unknown_source");
    let model = Hub::start(Repository::new("models", weights()));
    let mut command = model.command(&desk, &["init", "hf:models/o/n"]);
    command.env("PIPE_CACHE", desk.path("other"));
    desk.output(command).snapshot("init_of_a_model");
}

#[test]
fn a_data_set_of_parquet_files_is_trained_on() {
    let files = vec![
        one("data/train-00000-of-00001.parquet", golden("train.parquet")),
        one("data/test-00000-of-00001.parquet", golden("test.parquet")),
    ];
    let hub = Hub::start(Repository::new("datasets", files));
    let desk = Desk::empty();
    let dataset = "split = { from = \"folder\", validation = 0.25 }\n";
    desk.write("h.toml", tiny_of(dataset, "hf:o/n"));
    desk.edit("h.toml", "[stages.explore]\nneeds = { images = \"fetch\" }\n\n", "");
    let batches = "batch_size = 5\nschedule = { warmup_epochs = 0 }";
    desk.edit("h.toml", batches, "batch_size = 8");
    let ran = hub.run(&desk, &["h.toml", "--jobs", "1"]);
    assert_eq!(ran.code, 0, "{ran}");
    ran.snapshot("training_on_parquet");
}
