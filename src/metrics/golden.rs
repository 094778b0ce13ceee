//! Forty samples of seven classes that tests compare with other programs: the last class never
//! occurs, the one before it has probability 0 throughout, so that its scores are all tied.
//!
//! The same samples in Python, on which the snippets in the tests build:
//!
//! ```python
//! import numpy as np
//! state = 12345
//! def draw():
//!     global state
//!     state = (state * 1103515245 + 12345) % 2**31
//!     return state >> 16
//! labels, rows = [], []
//! for _ in range(40):
//!     label = draw() % 6
//!     weights = [1 + draw() % 16 for _ in range(7)]
//!     weights[label] += draw() % 20
//!     weights[5] = 0
//!     labels.append(label)
//!     rows.append(np.array(weights, dtype=np.float32) / np.float32(sum(weights)))
//! p = np.array(rows, dtype=np.float64)
//! ```

/// The label and the probabilities of each sample.
pub(super) fn samples() -> Vec<(u32, Vec<f32>)> {
    let mut state = 12345u64;
    let mut draw = || {
        state = (state * 1_103_515_245 + 12345) % (1 << 31);
        state >> 16
    };
    let mut sample = || {
        let label = draw() % 6;
        let mut weights: Vec<u64> = (0..7).map(|_| 1 + draw() % 16).collect();
        weights[label as usize] += draw() % 20;
        weights[5] = 0;
        let sum = weights.iter().sum::<u64>() as f32;
        (label as u32, weights.iter().map(|&weight| weight as f32 / sum).collect())
    };
    (0..40).map(|_| sample()).collect()
}

/// Their classes.
pub(super) fn names() -> Vec<String> {
    (0..7).map(|class| format!("class {class}")).collect()
}
