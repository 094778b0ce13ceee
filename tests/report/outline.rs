//! The guarantees of every page, and its structure as a snapshot.

use pipe::runs::Record;
use regex::Regex;

/// Asserts what every page guarantees: nothing is loaded or executed, every element is closed, no
/// number is NaN.
pub(crate) fn check(html: &str) {
    for wrong in ["<script", "http:", "https:", "NaN", "javascript:", " onload", "url("] {
        assert!(!html.contains(wrong), "{wrong} in a page");
    }
    for element in
        ["svg", "figure", "section", "div", "table", "g", "details", "span", "code", "p", "pre"]
    {
        let opened = html.matches(&format!("<{element}>")).count()
            + html.matches(&format!("<{element} ")).count();
        assert_eq!(opened, html.matches(&format!("</{element}>")).count(), "<{element}>");
    }
    assert!(html.starts_with("<!DOCTYPE html>") && html.ends_with("</html>\n"));
    assert!(html.contains("default-src 'none'"));
}

/// The structure of a page, an element a line: its name, classes and text. Drawings and styles are
/// left out, and what differs between two times and machines is replaced.
pub(crate) fn outline(html: &str, record: &Record) -> String {
    const EMPTY: [&str; 7] = ["br", "col", "hr", "img", "input", "link", "meta"];
    let tag = Regex::new(r"<(/?)([a-z][a-z0-9]*)([^>]*)>([^<]*)").unwrap();
    let class = Regex::new(r#" class="([^"]*)""#).unwrap();
    let (mut lines, mut depth, mut hidden) = (Vec::new(), 0, None);
    for found in tag.captures_iter(html) {
        let (_, [slash, name, attributes, text]) = found.extract();
        let closes = slash == "/";
        depth -= usize::from(closes);
        if hidden == Some(depth) && closes {
            hidden = None;
        }
        let text = if name == "style" { "" } else { text };
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        if hidden.is_none() && !(closes && text.is_empty()) {
            let classes = class.captures(attributes).map_or(String::new(), |found| {
                found[1].split(' ').map(|class| format!(".{class}")).collect()
            });
            let element = if closes { String::new() } else { format!("{name}{classes} ") };
            lines.push(format!("{}{element}{text}", "  ".repeat(depth)).trim_end().to_owned());
        }
        if !closes && !EMPTY.contains(&name) && !attributes.ends_with('/') {
            if hidden.is_none() && ["svg", "style"].contains(&name) {
                hidden = Some(depth);
            }
            depth += 1;
        }
    }
    assert_eq!(depth, 0, "every element is closed");
    steady(&lines.join("\n"), record)
}

fn steady(text: &str, record: &Record) -> String {
    let mut text = text.replace(env!("CARGO_PKG_VERSION"), "[version]");
    if !record.id.as_str().is_empty() {
        text = text.replace(record.id.as_str(), "[run]");
    }
    for (pattern, replacement) in [
        (r"\d{4}-\d\d-\d\d \d\d:\d\d( UTC)?", "[date]"),
        (r"\b\d+\.\d+ s\b", "[time]"),
        (r"\b\d+(\.\d+)? (kB|B)\b", "[size]"),
        (r"machine give identical results: .*", "machine give identical results: [machine]"),
        (r"dfdx \d.*", "[libraries]"),
    ] {
        text = Regex::new(pattern).unwrap().replace_all(&text, replacement).into_owned();
    }
    text
}

pub(crate) fn assert_snapshot(name: &str, text: &str) {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path("../snapshots/report");
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!(name, text));
}
