//! What holds for every schedule: views stay inside their buffers, live buffers don't overlap,
//! everything read was written, and no stored gradient is overwritten before it is read.

use super::{Case, Random, graphs};
use crate::nn::BatchNorm;
use crate::nn::schedule::arena::{ALIGNMENT, overlap};
use crate::nn::schedule::launch::Access;
use crate::nn::schedule::{Element, Options, Part, Schedule, TrainingInput, View};

/// Checks a schedule's views and buffers.
pub(super) fn check_buffers(schedule: &Schedule) {
    for (index, launch) in schedule.launches.iter().enumerate() {
        for (view, _) in launch.accesses() {
            let buffer = &schedule.buffers[view.buffer];
            let end = view.offset + (view.rows - 1) * view.stride + view.channels;
            assert!(end <= buffer.length && view.channels <= view.stride, "{launch:?}");
            assert!((buffer.first..=buffer.last).contains(&index), "{launch:?}");
        }
    }
    for (index, a) in schedule.buffers.iter().enumerate() {
        assert!(a.offset % ALIGNMENT == 0 && a.offset + a.bytes() <= schedule.bytes, "{a:?}");
        for b in &schedule.buffers[..index] {
            let apart = a.offset + a.bytes() <= b.offset || b.offset + b.bytes() <= a.offset;
            assert!(apart || !overlap(a, b), "{a:?} overlaps {b:?}");
        }
    }
    assert!(schedule.bytes >= schedule.peak());
    assert!(schedule.output.is_packed());
}

/// The state of an element.
#[derive(Clone, Copy, PartialEq)]
enum State {
    Unwritten,
    /// Written, and not read since.
    Written,
    Read,
}

/// Follows each element of each buffer: reads find it written, and a result isn't overwritten
/// before something has read it, so that a gradient is overwritten by its first launch alone.
fn check_elements(schedule: &Schedule) {
    let mut states: Vec<Vec<State>> =
        schedule.buffers.iter().map(|buffer| vec![State::Unwritten; buffer.length]).collect();
    let each = |view: View| {
        (0..view.rows).flat_map(move |row| {
            let begin = view.offset + row * view.stride;
            begin..begin + view.channels
        })
    };
    for given in [Some(schedule.input), schedule.targets].into_iter().flatten() {
        states[given.buffer].fill(State::Written);
    }
    for launch in &schedule.launches {
        let accesses = launch.accesses();
        for (view, _) in accesses.iter().filter(|(_, access)| *access != Access::Write) {
            for element in each(*view) {
                let state = &mut states[view.buffer][element];
                assert!(*state != State::Unwritten, "{launch:?} reads what isn't written");
                *state = State::Read;
            }
        }
        for (view, _) in accesses.iter().filter(|(_, access)| *access != Access::Read) {
            for element in each(*view) {
                let state = &mut states[view.buffer][element];
                assert!(*state != State::Written, "{launch:?} overwrites what nothing has read");
                *state = State::Written;
            }
        }
    }
    let output = schedule.output;
    assert!(each(output).all(|element| states[output.buffer][element] != State::Unwritten));
}

fn check(schedule: &Schedule) {
    check_buffers(schedule);
    check_elements(schedule);
    let mut stored: Vec<usize> =
        schedule.launches.iter().flat_map(|launch| launch.stored_gradients()).collect();
    let count = stored.len();
    stored.sort_unstable();
    stored.dedup();
    assert_eq!(stored.len(), count, "a parameter's gradient is stored once");
}

#[test]
fn schedules_of_random_graphs_are_sound() {
    for seed in 0..400 {
        let case = Case::new(graphs::random(1000 + seed), 2, seed);
        let graph = &case.graph;
        let mut random = Random(seed);
        for element in [Element::F32, Element::Bf16] {
            let options = Options { batch: 2 + random.below(3), element };
            let from = random.below(case.parameters.len() + 1);
            let trainable: Vec<bool> =
                (0..case.parameters.len()).map(|p| p >= from && random.below(5) > 0).collect();
            let norm = [BatchNorm::Batch, BatchNorm::Running][random.below(2)];
            for from in [TrainingInput::Images, TrainingInput::Features] {
                let training = Schedule::training(graph, &trainable, from, norm, options).unwrap();
                check(&training);
                let again = Schedule::training(graph, &trainable, from, norm, options).unwrap();
                assert_eq!(training, again);
                if from == TrainingInput::Images {
                    assert_eq!(training.stored, trainable);
                }
            }
            for part in [Part::Backbone, Part::Head, Part::Both] {
                check(&Schedule::inference(graph, part, options).unwrap());
            }
        }
    }
}

#[test]
fn schedules_of_small_graphs_are_sound_at_every_freeze_point() {
    for graph in [graphs::residual(), graphs::branches(), graphs::odd()] {
        let case = Case::new(graph, 3, 1);
        for from in 0..=case.parameters.len() {
            let trainable: Vec<bool> = (0..case.parameters.len()).map(|p| p >= from).collect();
            for norm in [BatchNorm::Batch, BatchNorm::Running] {
                check(&case.training(&trainable, norm).unwrap());
            }
        }
    }
}
