//! One budget of memory for all images that are decoded at a time, whatever the number of threads:
//! a file of a few kilobytes can declare 100 million pixels of 8 bytes. A thread waits until others
//! are done with theirs; an image that is larger than the whole budget is decoded alone.

use std::cell::Cell;
use std::sync::{Condvar, LazyLock, Mutex, PoisonError};

/// The smallest budget in bytes.
const LEAST: u64 = 1 << 30;

struct Budget {
    limit: u64,
    /// Held while waiting: first come, first served, so that many small images don't keep a large
    /// one waiting.
    turn: Mutex<()>,
    used: Mutex<u64>,
    freed: Condvar,
}

/// Half of the memory that is available when the first image is decoded.
static BUDGET: LazyLock<Budget> =
    LazyLock::new(|| Budget::new((available_memory().unwrap_or(0) / 2).max(LEAST)));

/// What a thread holds.
#[derive(Clone, Copy, Default)]
struct Held {
    /// Scopes that are open.
    depth: u32,
    bytes_per_pixel: u64,
    bytes: u64,
}

thread_local! {
    static HELD: Cell<Held> = const { Cell::new(Held { depth: 0, bytes_per_pixel: 0, bytes: 0 }) };
}

/// Gives back what the thread reserved when the outermost one is dropped.
pub(super) struct Scope;

impl Scope {
    /// The following reservations take this many bytes per pixel.
    pub(super) fn open(bytes_per_pixel: u64) -> Scope {
        let held = HELD.get();
        HELD.set(Held { depth: held.depth + 1, bytes_per_pixel, ..held });
        Scope
    }
}

impl Drop for Scope {
    fn drop(&mut self) {
        let held = HELD.get();
        let depth = held.depth.saturating_sub(1);
        if depth > 0 {
            HELD.set(Held { depth, ..held });
        } else {
            HELD.set(Held::default());
            BUDGET.give_back(held.bytes);
        }
    }
}

/// Reserves the memory of an image in the open scope, waiting until there is enough.
pub(super) fn reserve(pixels: u64) {
    let held = HELD.get();
    let needed = BUDGET.share(pixels.saturating_mul(held.bytes_per_pixel));
    if held.depth > 0 && needed > held.bytes {
        // Nothing is held while waiting: two that wait for each other would wait for ever.
        BUDGET.give_back(held.bytes);
        BUDGET.take(needed);
        HELD.set(Held { bytes: needed, ..held });
    }
}

impl Budget {
    fn new(limit: u64) -> Budget {
        Budget { limit, turn: Mutex::new(()), used: Mutex::new(0), freed: Condvar::new() }
    }

    /// The part of the budget that stands for this many bytes: at most all of it.
    fn share(&self, bytes: u64) -> u64 {
        bytes.min(self.limit)
    }

    fn take(&self, share: u64) {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        while share > self.limit - *used {
            used = self.freed.wait(used).unwrap_or_else(PoisonError::into_inner);
        }
        *used += share;
    }

    fn give_back(&self, share: u64) {
        if share > 0 {
            *self.used.lock().unwrap_or_else(PoisonError::into_inner) -= share;
            self.freed.notify_all();
        }
    }
}

/// Bytes of memory that programs can still use, as Linux and its control groups say.
fn available_memory() -> Option<u64> {
    let info = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = info.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let available =
        line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)?;
    let group = std::fs::read_to_string("/sys/fs/cgroup/memory.max").ok();
    let group = group.and_then(|text| text.trim().parse::<u64>().ok());
    Some(group.map_or(available, |most| most.min(available)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU64, Ordering};

    #[test]
    fn threads_never_hold_more_than_the_budget_together() {
        let budget = Budget::new(100);
        let (held, most) = (AtomicU64::new(0), AtomicU64::new(0));
        std::thread::scope(|scope| {
            for thread in 0..8u64 {
                let (budget, held, most) = (&budget, &held, &most);
                scope.spawn(move || {
                    for round in 0..50 {
                        // Some are larger than all of it.
                        let share = budget.share((thread * 37 + round * 13) % 150);
                        budget.take(share);
                        let now = held.fetch_add(share, Ordering::SeqCst) + share;
                        most.fetch_max(now, Ordering::SeqCst);
                        std::thread::yield_now();
                        held.fetch_sub(share, Ordering::SeqCst);
                        budget.give_back(share);
                    }
                });
            }
        });
        assert!(most.into_inner() <= 100);
        assert_eq!(*budget.used.lock().unwrap(), 0);
    }

    #[test]
    fn the_outermost_scope_gives_everything_back() {
        let outer = Scope::open(0);
        {
            let _inner = Scope::open(4);
            reserve(1000);
            assert_eq!(HELD.get().bytes, 4000);
            reserve(10);
        }
        assert_eq!(HELD.get().bytes, 4000);
        drop(outer);
        assert_eq!((HELD.get().bytes, HELD.get().depth), (0, 0));
        reserve(1000);
        assert_eq!(HELD.get().bytes, 0, "outside of a scope nothing is counted");
    }
}
