//! `pipe preview`: training images as the network sees them, from a tensor cache or without one.

use crate::support::Desk;

#[test]
fn a_preview_needs_no_earlier_run_and_uses_one_if_there_is() {
    let desk = Desk::tiny();
    desk.ok(&["preview", "tiny.toml"]).snapshot("preview_of_files");
    desk.ok(&["run", "tiny.toml", "--until", "preprocess"]);
    desk.ok(&["preview", "tiny.toml", "--out", "strip.png", "--images", "3", "--views", "4"])
        .snapshot("preview_of_a_tensor_cache");
    // Five squares across, three down, with 4 pixels between them.
    let image = image::open(desk.path("strip.png")).unwrap();
    let side = (image.width() - 4 * 4) / 5;
    assert_eq!((image.width(), image.height()), (5 * side + 16, 3 * side + 8));
    let page = desk.read("strip.html");
    assert_eq!(page.matches("<figure>").count(), 8 * 6);
}

#[test]
fn a_preview_says_what_it_needs() {
    let desk = Desk::tiny();
    let refused = |arguments: &[&str], code: i32, name: &str| {
        let ran = desk.pipe(&[&["preview"], arguments].concat());
        assert_eq!(ran.code, code, "{ran}");
        ran.snapshot(name);
    };
    refused(&["tiny.toml", "--out", "strip.jpg"], 2, "preview_as_jpeg");
    refused(&["tiny.toml", "--stage", "trian"], 2, "preview_of_an_unknown_stage");
    desk.edit("tiny.toml", "path:images", "synthetic:garments");
    refused(&["tiny.toml"], 1, "preview_of_what_is_not_fetched");
    desk.write("fetch.toml", "[stages.fetch]\nsource = \"path:images\"\n");
    refused(&["fetch.toml"], 2, "preview_without_training");
}
