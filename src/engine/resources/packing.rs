//! Chooses the stages that start: those that fit, in order. What a stage in line lacks is kept for
//! it, so that it waits for nothing but stages that run already.

use super::Amounts;

/// The indices of those stages of `ready` that start now. `ready` says what each asks for, the first
/// in line first; `places` is the number of stages that may start.
///
/// A stage that asks for nothing starts wherever a place is free.
pub(in crate::engine) fn choose(ready: &[Amounts], mut free: Amounts, places: usize) -> Vec<usize> {
    let mut chosen = Vec::new();
    for (index, asked) in ready.iter().enumerate() {
        if chosen.len() == places {
            break;
        }
        if asked.fits(free) {
            chosen.push(index);
        }
        // Where it doesn't fit, no later stage gets what it waits for.
        free = free.without(*asked);
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ALL: Amounts = Amounts { threads: 8, memory: 100, gpus: 2 };

    /// A stage: what it asks for, and how long it runs.
    fn stage() -> impl Strategy<Value = (Amounts, u32)> {
        let amounts = prop_oneof![
            Just(Amounts::default()),
            (0_u64..=8, 0_u64..=100, 0_u64..=2).prop_map(|(threads, memory, gpus)| Amounts {
                threads,
                memory,
                gpus
            }),
        ];
        (amounts, 1_u32..5)
    }

    /// The stages that start at each moment until all ran.
    fn simulated(stages: &[(Amounts, u32)], jobs: usize) -> Vec<Vec<usize>> {
        let mut waiting: Vec<usize> = (0..stages.len()).collect();
        let mut running: Vec<(usize, u32)> = Vec::new();
        let mut history = Vec::new();
        while !waiting.is_empty() || !running.is_empty() {
            let taken = running.iter().map(|(index, _)| stages[*index].0);
            let free = taken.fold(ALL, Amounts::without);
            let ready: Vec<Amounts> = waiting.iter().map(|index| stages[*index].0).collect();
            let chosen = choose(&ready, free, jobs - running.len());
            assert!(!chosen.is_empty() || !running.is_empty(), "nothing ever starts");
            let started: Vec<usize> = chosen.iter().map(|at| waiting[*at]).collect();
            waiting.retain(|index| !started.contains(index));
            running.extend(started.iter().map(|index| (*index, stages[*index].1)));
            history.push(started);
            running.iter_mut().for_each(|(_, left)| *left -= 1);
            running.retain(|(_, left)| *left > 0);
        }
        history
    }

    proptest! {
        #[test]
        fn all_run_and_never_over_budget(
            stages in proptest::collection::vec(stage(), 1..12),
            jobs in 1_usize..5,
        ) {
            let history = simulated(&stages, jobs);
            let mut all: Vec<usize> = history.concat();
            all.sort_unstable();
            prop_assert_eq!(all, (0..stages.len()).collect::<Vec<_>>());
            for moment in 0..history.len() {
                let (mut count, mut sums) = (0, [0; 3]);
                for (start, started) in history.iter().enumerate().take(moment + 1) {
                    let runs = |index: &&usize| start + stages[**index].1 as usize > moment;
                    for index in started.iter().filter(runs) {
                        let asked = stages[*index].0;
                        count += 1;
                        sums = [sums[0] + asked.threads, sums[1] + asked.memory, sums[2] + asked.gpus];
                    }
                }
                prop_assert!(count <= jobs);
                prop_assert!(sums[0] <= ALL.threads && sums[1] <= ALL.memory && sums[2] <= ALL.gpus);
            }
            prop_assert_eq!(simulated(&stages, jobs), history, "another order");
        }

        #[test]
        fn nobody_overtakes_a_stage_in_what_it_lacks(
            ready in proptest::collection::vec(stage().prop_map(|(asked, _)| asked), 1..12),
            taken in stage().prop_map(|(asked, _)| asked),
        ) {
            let free = ALL.without(taken);
            let chosen = choose(&ready, free, usize::MAX);
            let Some(first) = (0..ready.len()).find(|index| !chosen.contains(index)) else { return Ok(()) };
            let before = ready[..first].iter().fold(free, |free, asked| free.without(*asked));
            let lacks = |amount: fn(&Amounts) -> u64| amount(&ready[first]) > amount(&before);
            for later in chosen.iter().filter(|index| **index > first).map(|index| ready[*index]) {
                prop_assert!(!lacks(|it| it.threads) || later.threads == 0);
                prop_assert!(!lacks(|it| it.memory) || later.memory == 0);
                prop_assert!(!lacks(|it| it.gpus) || later.gpus == 0);
            }
            // Once those that run have ended it starts.
            prop_assert_eq!(choose(&ready[first..], ALL, 1), [0]);
        }
    }

    #[test]
    fn stages_without_resources_start_in_order_up_to_the_number_of_jobs() {
        assert_eq!(choose(&[Amounts::default(); 5], Amounts::default(), 3), [0, 1, 2]);
        let big = Amounts { memory: 101, ..Amounts::default() };
        assert_eq!(choose(&[big, Amounts::default(), big], ALL, 3), [1]);
    }
}
