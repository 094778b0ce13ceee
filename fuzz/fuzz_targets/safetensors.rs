//! Any bytes as a safetensors file: accepted weights must be equal after a round trip.

#![no_main]

use libfuzzer_sys::fuzz_target;
use pipe::fuzzing::{safetensors_from_bytes, safetensors_to_bytes};

fuzz_target!(|bytes: &[u8]| {
    let Ok(weights) = safetensors_from_bytes::<f64>(bytes) else { return };
    // Metadata of several entries can be read but has no fixed order to be written in.
    let Ok(written) = safetensors_to_bytes(&weights) else { return };
    assert_eq!(safetensors_from_bytes::<f64>(&written).expect("own bytes are accepted"), weights);
});
