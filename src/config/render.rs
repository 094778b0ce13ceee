//! Renders diagnostics as a compiler does: the line, a caret, the expected value, help.

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};

use super::{Diagnostic, Diagnostics};
use crate::common::visible::visible;

/// Maximum number of rendered diagnostics; the rest is counted.
const MOST: usize = 50;

impl Diagnostics {
    /// All of them with a blank line between two, ending in a newline.
    pub fn render(&self, color: bool) -> String {
        let renderer = if color { Renderer::styled() } else { Renderer::plain() };
        let shown = self.list.iter().take(MOST);
        let mut drawn: Vec<String> =
            shown.map(|diagnostic| renderer.render(&[self.group(diagnostic)])).collect();
        if let Some(more @ 1..) = self.list.len().checked_sub(MOST) {
            drawn.push(format!("… and {more} more"));
        }
        drawn.join("\n\n") + "\n"
    }

    fn group<'a>(&'a self, diagnostic: &'a Diagnostic) -> Group<'a> {
        let mut group = Group::with_title(Level::ERROR.primary_title(&diagnostic.message));
        if let Some(origin) = &diagnostic.origin {
            let label = Some(diagnostic.label.as_str()).filter(|label| !label.is_empty());
            let text = self.sources.text(origin.file);
            let snippet = Snippet::source(text).path(self.sources.name(origin.file));
            group =
                group
                    .element(snippet.annotation(
                        AnnotationKind::Primary.span(origin.span.clone()).label(label),
                    ));
        }
        match &diagnostic.help {
            // Unlike titles and labels, it isn't cleaned by the renderer.
            Some(help) => group.element(Level::HELP.message(visible(help))),
            None => group,
        }
    }
}
