//! Belay's own layout, in which a file that goose or dbmate marks up would be run whole: also the half that undoes the other.

use memchr::memmem;

use super::{dbmate, goose};
use crate::api::Layout;
use crate::script::{Unsupported, UnsupportedKind, line_comments};

/// The first line by which goose or dbmate would tell the two halves of the file apart.
pub(super) fn marked_by_another_tool(text: &str) -> Option<Unsupported> {
    let holds = |word: &str| memmem::find(text.as_bytes(), word.as_bytes()).is_some();
    // Few files are worth another reading.
    if !holds("+goose") && !holds("migrate:") {
        return None;
    }
    let lines = line_comments(text).into_iter().filter(|(position, _)| position.column == 1);
    let (position, layout) = lines.filter_map(|(position, line)| Some((position, whose(line)?))).next()?;
    let layout = layout.as_str();
    Some(Unsupported {
        kind: UnsupportedKind::Layout,
        position,
        what: format!(
            "by this line {layout} tells what is to be run from what undoes it, and in the layout belay both are run"
        ),
        remedy: format!("name the layout (spec.source.layout: {layout}, --layout {layout})"),
    })
}

fn whose(line: &str) -> Option<Layout> {
    let of_dbmate = || ["up", "down"].iter().any(|which| dbmate::mark(line, which).is_some());
    if goose::opens_section(line) { Some(Layout::Goose) } else { of_dbmate().then_some(Layout::Dbmate) }
}
