//! Mistakes drawn as a compiler draws them: the line, a caret, what was expected, what to do.

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};

use super::{Problem, Problems};

/// As many mistakes are drawn, the rest is counted: nobody reads more at once.
const MOST: usize = 50;

impl Problems {
    /// All of them, a blank line between two, ending in a newline; with ANSI colours or without.
    pub fn render(&self, colour: bool) -> String {
        let renderer = if colour { Renderer::styled() } else { Renderer::plain() };
        let shown = self.list.iter().take(MOST);
        let mut drawn: Vec<String> =
            shown.map(|problem| renderer.render(&[self.group(problem)])).collect();
        if let Some(more @ 1..) = self.list.len().checked_sub(MOST) {
            drawn.push(format!("… and {more} more"));
        }
        drawn.join("\n\n") + "\n"
    }

    fn group<'a>(&'a self, problem: &'a Problem) -> Group<'a> {
        let mut group = Group::with_title(Level::ERROR.primary_title(&problem.message));
        if let Some(origin) = &problem.origin {
            let label = Some(problem.label.as_str()).filter(|label| !label.is_empty());
            let text = self.sources.text(origin.file);
            let snippet = Snippet::source(text).path(self.sources.name(origin.file));
            group =
                group
                    .element(snippet.annotation(
                        AnnotationKind::Primary.span(origin.span.clone()).label(label),
                    ));
        }
        match &problem.help {
            Some(help) => group.element(Level::HELP.message(help)),
            None => group,
        }
    }
}
