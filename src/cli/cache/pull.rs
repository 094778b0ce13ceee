//! `pipe cache pull RUN… PLACE`: copies the records and the outputs of runs from a store elsewhere.

use super::copy::Copy;
use super::exchange::{Arguments, Copied, failed, print};
use crate::cli::failure::Failure;
use crate::cli::shared::run_name;
use crate::cli::signals;
use crate::events::CancellationToken;
use crate::runs::{self, RunId};
use crate::stages::Remote;
use crate::store::remote::objects;
use crate::ui;

/// The largest file with the id of a name, in bytes.
const MAX_NAME: u64 = 100;

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let from = super::place(arguments)?;
    let store = arguments.common.store.open()?;
    store.take_notes().iter().for_each(|note| ui::warning(note));
    let cancel = CancellationToken::new();
    signals::cancel_on_interrupt(&cancel)?;
    from.open(&cancel).map_err(|error| failed(from.place(), error))?;
    let events = ui::following("pull");
    let copy = Copy { from: &from, to: &store, arguments, events: &events, cancel: &cancel };
    let pull = |wanted: &String| copy.run(&id_of(&from, wanted, &cancel)?);
    let all = arguments.runs.iter().map(pull).collect::<Result<Vec<Copied>, Failure>>();
    drop(events);
    print(arguments, ["pulled", "would be pulled"], &all?)
}

/// The id of the run called `wanted` in a store elsewhere.
fn id_of(from: &Remote, wanted: &str, cancel: &CancellationToken) -> Result<RunId, Failure> {
    if let Some(id) = RunId::parse(wanted) {
        return Ok(id);
    }
    if let Some(folder) = from.folder() {
        let folder = folder.join("v1/runs");
        return Ok(runs::find(&folder, wanted)?.id);
    }
    let help = "name it by its id, or by the name that it had when it was pushed";
    let unknown =
        || Failure::invalid(format!("no run is called `{wanted}` in {}", from.place())).help(help);
    let name = run_name(wanted).map_err(|_| unknown())?;
    let text = from.read(&objects::name(&name), MAX_NAME, cancel);
    let text = text.map_err(|error| failed(from.place(), error))?.ok_or_else(unknown)?;
    let id = String::from_utf8(text).ok().and_then(|text| RunId::parse(text.trim()));
    id.ok_or_else(unknown)
}
