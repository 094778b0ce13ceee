//! Damage found while a run goes on: the stages whose artifacts are damaged run again, each at most
//! once, and then those that need them.

use super::Executor;
use super::node::{Node, Spent, StageEnd, Status};
use crate::engine::lookup::Planned;
use crate::events::Reason;

impl Executor<'_> {
    /// Takes back the start of a stage whose inputs `roles` are damaged, and lets the stages that
    /// feed them run again.
    pub(super) fn rebuild_inputs(
        &mut self,
        index: usize,
        roles: &[String],
        notes: Vec<String>,
        seconds: f64,
    ) {
        let reason = notes.first().cloned();
        self.warn(notes);
        let stage = self.nodes[index].stage;
        let feeders: Vec<&String> = roles.iter().filter_map(|role| stage.needs.get(role)).collect();
        for name in &feeders {
            if !self.rebuild(name, reason.as_deref()) {
                let error = format!(
                    "the output of `{name}` was damaged again after it was rebuilt: check the disk and its memory"
                );
                self.finish(index, StageEnd::Failed(error), Spent { seconds, peak_memory: None });
                return;
            }
        }
        let node = &mut self.nodes[index];
        // Its key depends on the outputs that are made now.
        let below = feeders.into_iter().cloned().collect();
        let state = std::mem::replace(&mut node.planned.state, Planned::Pending { below });
        let earlier = state.key().map(|(_, fingerprint)| (stage.name.clone(), fingerprint.clone()));
        node.planned.earlier.extend(earlier);
        node.status = Status::Waiting;
    }

    /// Lets a stage that is done run again. Returns false if it did that before.
    fn rebuild(&mut self, name: &str, reason: Option<&str>) -> bool {
        let position = self.nodes.iter().position(|node| node.stage.name == name);
        let index = position.expect("a plan contains all that its stages need");
        let Node { planned, status, .. } = &mut self.nodes[index];
        let (Status::Done { .. }, Some((key, fingerprint))) = (&status, planned.state.key()) else {
            // It is being rebuilt for another stage.
            return true;
        };
        let message = reason.unwrap_or("its artifact disappeared from the store").to_owned();
        let reasons = vec![Reason::ArtifactDamaged { message }];
        planned.state = Planned::Dirty { key: *key, fingerprint: fingerprint.clone(), reasons };
        *status = Status::Waiting;
        self.rebuilt.insert(index)
    }
}
