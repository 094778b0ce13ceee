//! Which images are trained on and scored: groups, tables of other formats, quick tries, and a
//! second set that is only scored.

use crate::support::Desk;

const STAGES: &str = "[stages.fetch]\nsource = \"path:images\"\n[stages.preprocess]\n\
                      needs = { images = \"fetch\" }\nsize = 32\n";

/// The samples that a preprocess stage stored: path, class and split, a line each.
fn samples(desk: &Desk, stage: &str) -> String {
    let why = desk.ok(&["why", "p.toml", stage, "--json"]).json();
    let artifact = why["artifact"].as_str().unwrap();
    let table = desk.read(&format!("{artifact}/samples.tsv"));
    let columns = |line: &str| -> String {
        let cells: Vec<&str> = line.split('\t').collect();
        [cells[0], cells[3], cells[4]].join(" ") + "\n"
    };
    table.lines().filter(|line| line.split('\t').count() > 4).map(columns).collect()
}

#[test]
fn images_of_one_object_stay_in_one_split() {
    let desk = Desk::empty();
    desk.images("images", &["disc", "bar", "frame"], 12);
    // Four images of each object: the name begins with it.
    for entry in std::fs::read_dir(desk.path("images")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let number: usize = name.split_once('_').unwrap().0.parse().unwrap();
        std::fs::rename(&path, path.with_file_name(format!("o{}-{name}", number % 9))).unwrap();
    }
    let labels =
        "labels = { from = \"path\", pattern = '^(?<object>o\\d+)-\\d+_(?<class>\\w+)\\.' }";
    let split = "split = { method = \"exact\", train = 0.67, test = 0.33, group = \"object\" }";
    desk.write("p.toml", format!("[dataset]\n{labels}\n{split}\n{STAGES}"));
    desk.ok(&["run", "p.toml"]).snapshot("groups");
    desk.snapshot("samples_of_groups", &samples(&desk, "preprocess"));
    desk.edit("p.toml", "group = \"object\"", "group = \"objekt\"");
    let refused = desk.pipe(&["run", "p.toml"]);
    assert_ne!(refused.code, 0);
    refused.snapshot("a_group_that_is_not_in_the_pattern");
}

#[test]
fn a_table_says_the_same_in_every_format() {
    let desk = Desk::empty();
    desk.images("images", &["x"], 8);
    let class = |at: usize| ["cat", "dog"][at % 2];
    let side = |at: usize| ["train", "test"][at / 4];
    let lines = |line: &dyn Fn(usize) -> String| (0..8).map(line).collect::<String>();
    desk.write("t.csv", lines(&|at| format!("{at}_x.png,{},{}\n", class(at), side(at))));
    desk.write("t.csv", format!("image,label,split\n{}", desk.read("t.csv")));
    desk.write("t.tsv", desk.read("t.csv").replace(',', "\t"));
    desk.write(
        "t.jsonl",
        lines(&|at| {
            let (class, side) = (class(at), side(at));
            format!(
                "{{\"image\": \"{at}_x.png\", \"label\": \"{class}\", \"split\": \"{side}\"}}\n"
            )
        }),
    );
    let dataset = "[dataset]\nlabels = { from = \"csv\", file = \"t.csv\" }\n\
                   split = { from = \"csv\", column = \"split\" }\n";
    desk.write("p.toml", format!("{dataset}{STAGES}"));
    desk.ok(&["run", "p.toml"]).snapshot("labels_and_split_from_a_table");
    let from_csv = samples(&desk, "preprocess");
    desk.snapshot("samples_of_a_table", &from_csv);
    for format in ["t.tsv", "t.jsonl"] {
        desk.write("p.toml", format!("{dataset}{STAGES}").replace("t.csv", format));
        desk.ok(&["run", "p.toml"]);
        assert_eq!(samples(&desk, "preprocess"), from_csv, "{format}");
    }
}

#[test]
fn a_quick_try_takes_some_images_of_each_class() {
    let desk = Desk::empty();
    desk.images("images", &["disc", "bar", "frame"], 10);
    let labels = "labels = { from = \"file_name\", pattern = '^\\d+_(?<class>\\w+)$' }";
    let split = "split = { method = \"exact\", train = 0.5, test = 0.5 }";
    desk.write("p.toml", format!("[dataset]\n{labels}\n{split}\n{STAGES}"));
    desk.ok(&["run", "p.toml"]);
    let all = samples(&desk, "preprocess");
    let limited = desk.ok(&["run", "p.toml", "--set", "dataset.limit_per_class=4"]);
    limited.snapshot("at_most_four_of_each_class");
    let fraction = desk.ok(&["run", "p.toml", "--set", "dataset.fraction=0.2"]);
    fraction.snapshot("a_fifth_of_each_class");
    // The quick tries leave what was made of all images.
    assert_eq!(desk.events(&["p.toml"]).with_outcome("ran"), [""; 0]);
    assert_eq!(samples(&desk, "preprocess"), all);
}

#[test]
fn a_second_set_is_scored_whole() {
    let desk = Desk::tiny();
    desk.images("later", &["disc", "bar", "frame"], 2);
    desk.edit("tiny.toml", "validation = 0.25, test = 0.25", "validation = 0.5");
    let more = "\n[stages.later]\nkind = \"fetch\"\nsource = \"path:later\"\n\n[stages.later_records]\n\
                kind = \"preprocess\"\nneeds = { images = \"later\" }\nsize = 32\nonly = \"test\"\n";
    desk.edit(
        "tiny.toml",
        "[stages.evaluate]\nneeds = { data = \"preprocess\"",
        &format!("{more}\n[stages.evaluate]\nneeds = {{ data = \"later_records\""),
    );
    desk.ok(&["run", "tiny.toml", "--jobs", "1"]).snapshot("a_second_set");
    let show = desk.ok(&["show", "@0", "--json"]).json();
    assert_eq!(show["evaluations"][0]["metrics"]["splits"]["test"]["count"], 6);
}
