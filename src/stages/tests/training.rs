//! Train and evaluate as stages: what their parameters become, and what they write.

use crate::config::{self, Values};
use crate::data::Preprocessing;
use crate::engine::{Context, Device, InputArtifact, StageError, graph};
use crate::events::{CancellationToken, EventSink, StageEvent};
use crate::metrics::{Curves, Evaluation, read_history, read_predictions, softmax};
use crate::model::{Content, GivenImage, Model};
use crate::nn::{Head, Network, write_safetensors};
use crate::stages::KINDS;
use crate::store::{Digest, Memo};
use crate::training::tests::{COUNTS, Counts, small, write_cache};
use serde_json::json;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock};

/// The values of the stage `train` of a pipeline with these lines in `[stages.train]`, or all that
/// is wrong with it.
fn resolved(lines: &str) -> Result<Values, String> {
    resolved_beside("", lines)
}

/// The same, with more stages before it.
fn resolved_beside(stages: &str, lines: &str) -> Result<Values, String> {
    resolved_for(8, stages, lines)
}

/// The same, for images of this side.
fn resolved_for(side: u32, stages: &str, lines: &str) -> Result<Values, String> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pipeline.toml");
    let text = format!(
        "[stages.fetch]\nsource = \"synthetic:garments\"\n[stages.preprocess]\nsize = {side}\nneeds = {{ images = \"fetch\" }}\n\
         {stages}\n[stages.train]\n{lines}\n[stages.evaluate]\nneeds = {{ data = \"preprocess\", model = \"train\" }}\n"
    );
    std::fs::write(&file, text).unwrap();
    let pipeline = config::load(&file, &[]).map_err(|diagnostics| diagnostics.to_string())?;
    let graph = graph(&pipeline, KINDS).map_err(|diagnostics| diagnostics.to_string())?;
    Ok(graph.stage("train").unwrap().values.clone())
}

const NEEDS: &str = "needs = { data = \"preprocess\" }";

/// A stage whose model another one can start from.
const FIRST: &str = "[stages.first]\nkind = \"train\"\nneeds = { data = \"preprocess\" }";

#[test]
fn defaults_are_those_of_training_from_scratch() {
    let values = resolved(NEEDS).unwrap();
    assert_eq!(values["backbone"], "resnet18");
    assert_eq!((&values["freeze"], &values["batch_norm"]), (&json!("none"), &json!("train")));
    assert_eq!(
        values["schedule"],
        json!({ "kind": "cosine", "warmup_epochs": 1.0, "min_learning_rate_ratio": 0.0 })
    );
    assert_eq!(values["optimizer"]["learning_rate"], 1e-3);
    assert_eq!(values["optimizer"]["weight_decay"], 1e-2);
    assert_eq!(values["optimizer"].get("backbone_learning_rate"), None);
    let augment = &values["augment"];
    assert_eq!(
        augment["random_resized_crop"],
        json!({ "scale": [0.6, 1.0], "ratio": [0.75, 4.0 / 3.0] })
    );
    assert_eq!(augment["horizontal_flip"], json!(true));
    assert_eq!(augment.get("random_affine"), None);
}

#[test]
fn the_default_augmentation_is_milder_than_a_crop_by_its_own_defaults() {
    let written =
        resolved(&format!("{NEEDS}\naugment = {{ random_resized_crop = {{}} }}")).unwrap();
    let mild = resolved(NEEDS).unwrap();
    let [written, mild] = [written, mild].map(|one| one["augment"]["random_resized_crop"].clone());
    assert_eq!(written["ratio"], mild["ratio"]);
    assert_eq!((&written["scale"], &mild["scale"]), (&json!([0.08, 1.0]), &json!([0.6, 1.0])));
}

#[test]
fn defaults_follow_other_values() {
    let other = "[stages.first]\nkind = \"train\"\nbackbone = \"resnet50\"\nneeds = { data = \"preprocess\" }";
    let needs =
        "needs = { data = \"preprocess\", weights = \"first\" }\nbackbone = \"resnet50/V2\"";
    let values = resolved_beside(other, needs).unwrap();
    assert_eq!(values["backbone"], "resnet50");
    assert_eq!((&values["freeze"], &values["batch_norm"]), (&json!("all"), &json!("frozen")));
    assert_eq!(values["augment"], "none");
    let unfreezing =
        resolved_beside(other, &format!("{needs}\nunfreeze_at = {{ layer4 = 3, layer3 = 6 }}"))
            .unwrap();
    assert_eq!(
        (&unfreezing["freeze"], &unfreezing["batch_norm"]),
        (&json!("all"), &json!("frozen"))
    );
    assert_eq!(unfreezing["optimizer"]["backbone_learning_rate"], json!(1e-4));
    assert_eq!(unfreezing["augment"]["horizontal_flip"], json!(true));
    let tuned =
        resolved_beside(other, &format!("{needs}\nfreeze = \"layer4\"\nepochs = 2")).unwrap();
    assert_eq!(
        (&tuned["batch_norm"], &tuned["optimizer"]["backbone_learning_rate"]),
        (&json!("train"), &json!(1e-4))
    );
    assert_eq!(tuned["schedule"]["warmup_epochs"], 0.4);
    let sgd = resolved(&format!("{NEEDS}\noptimizer = {{ kind = \"sgd\" }}")).unwrap();
    assert_eq!(
        (&sgd["optimizer"]["learning_rate"], &sgd["optimizer"]["weight_decay"]),
        (&json!(1e-2), &json!(1e-4))
    );
}

#[test]
fn what_does_not_go_together_is_said() {
    let other = "[stages.first]\nkind = \"train\"\nbackbone = \"resnet50\"\nneeds = { data = \"preprocess\" }";
    let cases = [
        ("", "backbone = \"resnet81\"", "did you mean `resnet18`?"),
        ("", "freeze = \"layer5\"", "did you mean `layer"),
        ("", "freeze = \"all\"\nbatch_norm = \"train\"", "the whole backbone is frozen"),
        ("", "batch_norm = \"affine\"", "no weights are given"),
        ("", "freeze = \"all\"", "without weights to start from"),
        ("", "freeze = \"layer3\"", "without weights to start from"),
        ("", "backbone = \"inception_v3\"", "set `size` of the stage `preprocess` to 75 or more"),
        (
            "",
            "freeze = \"all\"\noptimizer = { backbone_learning_rate = 1e-4 }",
            "all of it is frozen",
        ),
        ("", "optimizer = { nesterov = true }", "Nesterov momentum is for `sgd`"),
        (
            "",
            "optimizer = { betas = [0.9] }",
            "`stages.train.optimizer.betas` has the wrong length",
        ),
        ("", "augment = { random_resized_crop = { scale = [0.9, 0.1] } }", "the smaller one first"),
        ("", "epochs = 0", "epochs"),
        ("", "unfreeze_at = 3", "nothing is frozen, so there is nothing to unfreeze"),
        (
            "",
            "freeze = \"all\"\nunfreeze_at = 30",
            "there are only 20 epochs, so epoch 30 never comes",
        ),
        (
            "",
            "freeze = \"all\"\nunfreeze_at = { layer5 = 3 }",
            "expected `conv1`, `layer1`, `layer2`, `layer3` or `layer4`",
        ),
        (
            "",
            "freeze = \"all\"\nunfreeze_at = { layer3 = 3, layer4 = 6 }",
            "`layer4` is trainable before epoch 6 already",
        ),
        (
            "",
            "freeze = \"layer3\"\nunfreeze_at = { layer4 = 3 }",
            "`layer4` is trainable before epoch 3 already",
        ),
        ("", "class_weights = \"equal\"", "class_weights"),
        ("", "head = \"original\"", "the original classifier comes with weights"),
        ("", "aux_logits = true", "leave `aux_logits` out, or use `inception_v3`"),
        (
            "",
            "backbone = \"inception_v3\"\naux_logits = true\nfreeze = \"all\"",
            "helps to train a backbone",
        ),
        (
            other,
            "needs = { data = \"preprocess\", weights = \"first\" }",
            "the stage `first` trains a resnet50",
        ),
    ];
    for (stages, lines, expected) in cases {
        let needs = if lines.contains("needs") { "" } else { NEEDS };
        let diagnostics = resolved_beside(stages, &format!("{needs}\n{lines}")).unwrap_err();
        assert!(diagnostics.contains(expected), "{lines}: {diagnostics}");
    }
}

/// A folder of images, and stages over it.
struct Place {
    folder: tempfile::TempDir,
    memo: Memo,
    emitted: Arc<Mutex<Vec<StageEvent>>>,
}

impl Place {
    fn new(counts: Counts) -> Place {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("data")).unwrap();
        write_cache(&folder.path().join("data"), counts, small());
        Place { folder, memo: Memo::temporary().unwrap(), emitted: Arc::default() }
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    /// Runs a kind with these values and inputs (role, folder) into the folder `slot`.
    fn run(
        &self,
        kind: &str,
        values: Values,
        inputs: &[(&str, &str)],
        slot: &str,
    ) -> Result<(), StageError> {
        std::fs::create_dir(self.path(slot)).unwrap();
        let input = |folder: &str| InputArtifact {
            path: self.path(folder),
            digest: Digest::of(b"input"),
            folder: None,
            inside: None,
        };
        let sink = Arc::clone(&self.emitted);
        let context = Context {
            values,
            inputs: inputs.iter().map(|&(role, folder)| (role.to_owned(), input(folder))).collect(),
            facts: BTreeMap::new(),
            slot: self.path(slot),
            memo: self.memo.clone(),
            events: EventSink::new(move |emitted| sink.lock().unwrap().push(emitted)),
            cancel: CancellationToken::new(),
            seed: 42,
            threads: 1,
            gpus: Vec::new(),
            cache_from: Vec::new(),
            device: Device::Cpu,
            key: Digest::of(slot.as_bytes()),
        };
        KINDS.iter().find(|one| one.name() == kind).unwrap().run(&context)
    }

    fn train(&self, lines: &str, inputs: &[(&str, &str)], slot: &str) -> Result<(), StageError> {
        // Frozen without weights is refused; here the random ones that stay are as good.
        let needs = NEEDS.replace(" }", ", weights = \"first\" }");
        let values = resolved_beside(FIRST, &format!("{needs}\n{lines}")).unwrap();
        self.run("train", values, inputs, slot)
    }

    fn evaluate(&self, data: &str, model: &str, slot: &str) -> Result<(), StageError> {
        let values = Values::from_iter([("batch_size".to_owned(), json!(4))]);
        self.run("evaluate", values, &[("data", data), ("model", model)], slot)
    }

    fn sentences(&self) -> Vec<String> {
        let emitted = self.emitted.lock().unwrap();
        emitted
            .iter()
            .filter_map(|emitted| match emitted {
                StageEvent::Message { text, .. } => Some(text.clone()),
                _ => None,
            })
            .collect()
    }
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// A frozen random backbone keeps this quick; its head still learns something.
const HEAD_ALONE: &str =
    "freeze = \"all\"\nepochs = 3\nbatch_size = 8\noptimizer = { learning_rate = 0.02 }";

/// A place in which `model` is trained, for every test that only reads it.
fn trained() -> &'static Place {
    static PLACE: OnceLock<Place> = OnceLock::new();
    PLACE.get_or_init(|| {
        let place = Place::new(COUNTS);
        place.train(HEAD_ALONE, &[("data", "data")], "model").unwrap();
        place
    })
}

#[test]
fn a_model_is_trained_to_the_same_bytes_each_time() {
    let first = trained();
    assert_eq!(names(&first.path("model")), ["history.csv", "model.safetensors", "training.json"]);
    let sentences = first.sentences();
    assert!(
        sentences.iter().any(|text| text.starts_with("3 epochs, kept epoch ")),
        "{sentences:?}"
    );

    let second = Place::new(COUNTS);
    second.train(HEAD_ALONE, &[("data", "data")], "model").unwrap();
    for name in names(&first.path("model")) {
        let [one, other] =
            [first, &second].map(|place| std::fs::read(place.path("model").join(&name)).unwrap());
        assert!(one == other, "{name}");
    }
}

/// Numbers differ in their last digits from one kind of processor to another: hence tolerances, and
/// no digest. Whoever changes these numbers raises the version of the kind that made them.
#[test]
fn training_and_validation_losses_are_the_known_ones() {
    let history = read_history(&trained().path("model").join("history.csv")).unwrap();
    let golden = [[1.1159, 0.9558], [0.8981, 0.9109], [0.8361, 0.9000]];
    for (row, golden) in history.iter().zip(golden) {
        let found = [row.train_loss, row.validation_loss.unwrap()];
        assert!(
            found.iter().zip(golden).all(|(a, b)| (a - b).abs() < 2e-3),
            "{found:?} {golden:?}"
        );
    }
}

#[test]
fn a_model_is_scored_on_what_it_did_not_learn_from() {
    let place = trained();
    place.evaluate("data", "model", "scores").unwrap();
    assert_eq!(names(&place.path("scores")), ["curves.json", "metrics.json", "predictions.csv"]);
    let evaluation = Evaluation::read(&place.path("scores").join("metrics.json")).unwrap();
    let (test, validation) = (&evaluation.splits["test"], &evaluation.splits["validation"]);
    assert_eq!((test.count, validation.count), (6, 8));
    assert_eq!(evaluation.accuracy, Some(test.accuracy));
    assert!((test.loss - 0.9038).abs() < 2e-3, "{}", test.loss);
    let history = read_history(&place.path("model").join("history.csv")).unwrap();
    // The kept epoch's validation is evaluate's: the same code path from record to score.
    assert!(history.iter().any(|row| row.validation_loss == Some(validation.loss)), "{history:?}");

    let rows = read_predictions(&place.path("scores").join("predictions.csv")).unwrap();
    let count = |split: &str| rows.iter().filter(|row| row.split == split).count();
    assert_eq!(
        (count("validation"), count("test"), count("unlabelled"), rows.len()),
        (8, 6, 2, 16)
    );
    assert!(rows.iter().all(|row| row.label.is_none() == (row.split == "unlabelled")));
    let hits = rows
        .iter()
        .filter(|row| row.split == "test" && row.label.as_ref() == Some(&row.prediction))
        .count();
    assert_eq!(test.accuracy, hits as f64 / 6.0);
    let curves = Curves::read(&place.path("scores").join("curves.json")).unwrap();
    assert_eq!((curves.count, test.roc_auc), (6, Some(curves.roc[0].area)));
    assert_eq!(test.calibration_error, Some(curves.calibration.expected_error));
    assert_eq!(validation.roc_auc, None);
}

#[test]
fn a_model_s_scores_are_the_same_with_features_that_training_left_and_without() {
    let place = trained();
    place.evaluate("data", "model", "with").unwrap();
    let model = place.path("model");
    let other = Place::new(COUNTS);
    other.evaluate("data", model.to_str().unwrap(), "without").unwrap();
    let computed = |place: &Place| {
        let emitted = place.emitted.lock().unwrap();
        let features = |emitted: &StageEvent| matches!(emitted, StageEvent::Progress { task, .. } if task == "features");
        emitted.iter().filter(|emitted| features(emitted)).count()
    };
    assert!(computed(place) > 0 && computed(&other) == 0);
    for name in ["metrics.json", "curves.json", "predictions.csv"] {
        let [one, two] = [place.path("with"), other.path("without")]
            .map(|slot| std::fs::read(slot.join(name)).unwrap());
        assert!(one == two, "{name}");
    }
}

#[test]
fn another_training_s_weights_are_a_start() {
    let first = trained().path("model");
    let first = first.to_str().unwrap();
    let place = Place::new(COUNTS);
    let lines = format!("needs = {{ data = \"preprocess\", weights = \"first\" }}\n{HEAD_ALONE}");
    let values = resolved_beside(FIRST, &lines).unwrap();
    place.run("train", values.clone(), &[("data", "data"), ("weights", first)], "second").unwrap();
    let sentences = place.sentences();
    let start = "starting from the weights of a trained resnet18, head included";
    assert!(sentences.iter().any(|text| text == start), "{sentences:?}");
    let [one, other] = [trained().path("model"), place.path("second")]
        .map(|slot| read_history(&slot.join("history.csv")).unwrap());
    assert!(other[0].train_loss < one[0].train_loss);
    let error =
        place.run("train", values, &[("data", "data"), ("weights", "data")], "third").unwrap_err();
    assert!(error.to_string().contains("holds no weights"), "{error}");
}

/// The published classifier keeps its weights, answers for ImageNet's classes, and is scored where
/// classes bear their names.
#[test]
fn the_original_classifier_is_kept() {
    let place = Place::new(COUNTS);
    std::fs::create_dir(place.path("published")).unwrap();
    let network = Network::new("resnet18", &Head::Original, (8, 8), 3).unwrap();
    write_safetensors(&place.path("published").join("model.safetensors"), &network.save()).unwrap();
    let other = "[stages.weights]\nkind = \"fetch\"\nsource = \"torchvision:resnet18\"";
    let lines = "needs = { data = \"preprocess\", weights = \"weights\" }\nhead = \"original\"";
    let values = resolved_beside(other, lines).unwrap();
    place.run("train", values, &[("data", "data"), ("weights", "published")], "model").unwrap();
    assert_eq!(place.sentences().last().unwrap(), crate::stages::train::ORIGINAL);
    let model = Model::open(&place.path("model").join("model.safetensors")).unwrap();
    assert_eq!((model.classes().len(), model.classes()[1].as_str()), (1000, "goldfish"));
    let images: Vec<f32> = (0..8 * 8 * 3).map(|value| value as f32 / 96.0 - 1.0).collect();
    let expected = softmax(&network.logits(&images, 1).unwrap());
    assert_eq!(model.probabilities(&images, 1).unwrap(), expected);

    let error = place.evaluate("data", "model", "a").unwrap_err().to_string();
    assert!(error.contains("and 980 more, the images' are red, green, blue"), "{error}");
    let input = place.path("data").join("input.json");
    let text = std::fs::read_to_string(&input).unwrap();
    let named = text
        .replace("\"red\"", "\"tench\"")
        .replace("\"green\"", "\"hen\"")
        .replace("\"blue\"", "\"cock\"");
    std::fs::write(&input, named).unwrap();
    place.evaluate("data", "model", "b").unwrap();
    let rows = read_predictions(&place.path("b").join("predictions.csv")).unwrap();
    let labels: std::collections::BTreeSet<&str> =
        rows.iter().filter_map(|row| row.label.as_deref()).collect();
    assert_eq!(labels.into_iter().collect::<Vec<_>>(), ["cock", "hen", "tench"]);
}

#[test]
fn an_auxiliary_head_learns_and_is_not_in_the_model() {
    let place = Place::new(COUNTS);
    let preprocessing = Preprocessing { resize: 299, crop: 299, ..small() };
    std::fs::create_dir(place.path("larger")).unwrap();
    write_cache(
        &place.path("larger"),
        Counts { train: 2, validation: 0, test: 1, unlabelled: 0 },
        preprocessing,
    );
    let lines = "backbone = \"inception_v3\"\naux_logits = true\nepochs = 1\nbatch_size = 2\naugment = \"none\"";
    let values = resolved_for(299, "", &format!("{NEEDS}\n{lines}")).unwrap();
    place.run("train", values, &[("data", "larger")], "model").unwrap();
    let model = Model::open(&place.path("model").join("model.safetensors")).unwrap();
    assert_eq!(model.info().backbone, "inception_v3");
    let bytes = std::fs::read(place.path("model").join("model.safetensors")).unwrap();
    let names = crate::nn::weights::from_bytes::<f32>(&bytes).unwrap().tensors;
    assert!(
        names.contains_key("Mixed_7c.branch_pool.conv.weight")
            && !names.contains_key("AuxLogits.fc.weight")
    );
}

#[test]
fn a_model_file_answers_for_images_and_lists_what_is_none() {
    let model = Model::open(&trained().path("model").join("model.safetensors")).unwrap();
    assert_eq!(model.classes(), ["red", "green", "blue"]);
    let mut png = Vec::new();
    let image = image::RgbImage::from_fn(30, 20, |x, y| image::Rgb([x as u8 * 8, y as u8 * 8, 99]));
    image.write_to(&mut std::io::Cursor::new(&mut png), image::ImageFormat::Png).unwrap();
    let image = move |index: usize| {
        let bytes = if index % 40 == 7 { b"no image".to_vec() } else { png.clone() };
        GivenImage { name: format!("{index}.png"), content: Content::Bytes(bytes) }
    };
    let classified = |range: std::ops::Range<usize>| {
        let mut classifying = model.classify(range.map(image.clone())).unwrap();
        let mut all = Vec::new();
        while let Some(batch) = classifying.next(|| false).unwrap() {
            assert!(batch.len() <= 32);
            all.extend(
                batch
                    .into_iter()
                    .map(|one| (one.name, one.scores.map(|scores| scores.probabilities))),
            );
        }
        all
    };
    let all = classified(0..100);
    let names: Vec<String> = (0..100).map(|index| format!("{index}.png")).collect();
    assert!(all.iter().map(|(name, _)| name).eq(&names), "the order is kept");
    let unreadable = all.iter().filter(|(_, scores)| scores.is_err()).map(|(name, _)| name);
    assert_eq!(unreadable.collect::<Vec<_>>(), ["7.png", "47.png", "87.png"]);
    assert!(all.iter().flat_map(|(_, scores)| scores).all(|row| row.len() == 3));
    // Alone and in any company.
    assert_eq!(classified(39..40)[..], all[39..40]);
    assert!(classified(0..0).is_empty());
    // Whoever stops early waits for nothing.
    let mut endless = model.classify((0..).map(image.clone())).unwrap();
    assert!(endless.next(|| false).unwrap().is_some());
    assert!(endless.next(|| true).unwrap().is_none());
}

#[test]
fn evaluate_refuses_images_that_the_model_was_not_made_for() {
    let model = trained().path("model");
    let model = model.to_str().unwrap();
    let place = Place::new(Counts { validation: 0, test: 0, unlabelled: 0, ..COUNTS });
    let refusal = |slot: &str| place.evaluate("data", model, slot).unwrap_err().to_string();
    assert!(refusal("a").contains("both empty"));
    let input = place.path("data").join("input.json");
    let text = std::fs::read_to_string(&input).unwrap();
    std::fs::write(&input, text.replace("\"blue\"", "\"violet\"")).unwrap();
    let error = refusal("b");
    assert!(error.contains("red, green, blue") && error.contains("red, green, violet"), "{error}");
    std::fs::write(&input, text.replace("0.25", "0.5")).unwrap();
    assert!(refusal("c").contains("preprocessed differently"));
}
