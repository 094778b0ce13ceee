//! Order: the ring with its waits and without each of them, captured graphs, and the time spent
//! waiting.
#![expect(unsafe_code, reason = "launches kernels")]

use super::*;

pub(super) const SCENARIOS: &[Scenario] = &[
    ("ring", ring),
    ("ring waits", ring_waits),
    ("ring is full", ring_is_full),
    ("graph", graph),
    ("failing capture", failing_capture),
    ("panicking capture", panicking_capture),
    ("waiting capture", waiting_capture),
];

const STEPS: usize = 20;
const BYTES: usize = 1000;

/// Each step copies its data to its own place; the host never waits for the compute stream before
/// the end.
fn ring() -> Outcome {
    let card = Card::open(0)?;
    let kernel = Module::load(&card, SOURCE, &NoCache)?.kernel("copy_bytes")?;
    let seen = card.zeros::<u8>(STEPS * BYTES)?;
    let mut ring = Ring::new(&card, 3, BYTES)?;
    let mut submitted = 0;
    for step in 0..STEPS {
        while submitted < STEPS
            && let Some(mut slot) = ring.take()?
        {
            for (index, byte) in slot.bytes_mut().iter_mut().enumerate() {
                *byte = value(submitted, index);
            }
            ring.submit(slot, BYTES)?;
            submitted += 1;
        }
        let arrived = ring.receive()?.ok_or(CudaError::Bug("nothing arrived".to_owned()))?;
        let arguments = [
            Argument::Address(arrived.address()),
            Argument::Address(seen.address() + (step * BYTES) as u64),
            Argument::U32(BYTES as u32),
        ];
        // SAFETY: `copy_bytes` takes these types, and both places have so many bytes.
        unsafe { kernel.launch(card.compute(), [1, 1, 1], [1, 1, 1], &arguments)? };
        ring.release(arrived)?;
    }
    let mut bytes = vec![0; STEPS * BYTES];
    seen.read(card.compute(), 0, &mut bytes)?;
    let wrong = (0..STEPS * BYTES).filter(|i| bytes[*i] != value(i / BYTES, i % BYTES)).count();
    Ok(match wrong {
        0 => "all right".to_owned(),
        _ => format!("wrong, more than a tenth: {}", wrong > STEPS * BYTES / 10),
    })
}

fn value(step: usize, index: usize) -> u8 {
    (step * 31 + index * 7) as u8
}

/// A megabyte takes the fake driver a millisecond.
fn ring_waits() -> Outcome {
    let card = Card::open(0)?;
    let mut ring = Ring::new(&card, 3, 1_000_000)?;
    for _ in 0..40 {
        ring.idle()?;
        let slot = ring.take()?.ok_or(CudaError::Bug("no slot".to_owned()))?;
        ring.submit(slot, 1_000_000)?;
        if let Some(arrived) = ring.receive()? {
            ring.release(arrived)?;
        }
    }
    let waited = ring.waited()?.as_secs_f64() * 1e3;
    let again = ring.waited()?.as_secs_f64();
    Ok(format!("{} ms and {again}", waited.round()))
}

/// Without a release the third copy isn't started, and without a receive no slot comes back.
fn ring_is_full() -> Outcome {
    let card = Card::open(0)?;
    let mut ring = Ring::new(&card, 3, 10)?;
    for _ in 0..3 {
        let slot = ring.take()?.ok_or(CudaError::Bug("no slot".to_owned()))?;
        ring.submit(slot, 10)?;
    }
    let mut story = vec![format!("slot {}", ring.take()?.is_some())];
    let first = ring.receive()?;
    let second = ring.receive()?;
    let third = ring.receive()?;
    story.push(format!("received {} {} {}", first.is_some(), second.is_some(), third.is_some()));
    if let Some(first) = first {
        ring.release(first)?;
    }
    story.push(format!("then {}", ring.receive()?.is_some()));
    story.push(format!("slot {}", ring.take()?.is_some()));
    Ok(story.join(", "))
}

#[test]
fn the_ring_brings_what_was_submitted() {
    Case::new("ring").reports("all right");
}

#[test]
fn without_a_wait_the_ring_brings_something_else() {
    // The first stream computes, the second one copies.
    for stream in [1, 2] {
        let case = Case::new("ring").set("FAKE_CUDA_SKIP_WAITS", stream);
        case.reports("wrong, more than a tenth: true");
    }
}

#[test]
fn time_waited_for_data_is_measured() {
    Case::new("ring waits").reports("40 ms and 0");
}

#[test]
fn a_full_ring_lends_nothing() {
    Case::new("ring is full").reports("slot false, received true true false, then true, slot true");
}

#[test]
fn slots_may_be_filled_by_other_threads() {
    fn is_send<T: Send>() {}
    is_send::<Slot>();
}

/// `add 1` twice per launch, three launches.
fn graph() -> Outcome {
    let (card, add, numbers) = numbers()?;
    let graph = card.compute().capture(|stream| -> Result<(), CudaError> {
        launch(&add, stream, &numbers)?;
        launch(&add, stream, &numbers)
    })?;
    let before = read(&card, &numbers)?;
    for _ in 0..3 {
        graph.launch()?;
    }
    Ok(format!("{before} then {}", read(&card, &numbers)?))
}

fn failing_capture() -> Outcome {
    let (card, add, numbers) = numbers()?;
    let failed = card.compute().capture(|stream| {
        launch(&add, stream, &numbers)?;
        Err(CudaError::NoDevice)
    });
    let error = failed.err().map(|e| e.to_string()).unwrap_or_default();
    launch(&add, card.compute(), &numbers)?;
    Ok(format!("{error}; {}", read(&card, &numbers)?))
}

fn panicking_capture() -> Outcome {
    let (card, add, numbers) = numbers()?;
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        card.compute().capture(|_| -> Result<(), CudaError> { panic!("on purpose") }).map(drop)
    }));
    launch(&add, card.compute(), &numbers)?;
    Ok(format!("{}; {}", panicked.is_err(), read(&card, &numbers)?))
}

/// Waiting inside of a capture invalidates it, also where the error is not passed on.
fn waiting_capture() -> Outcome {
    let (card, add, numbers) = numbers()?;
    let passed_on = card.compute().capture(|stream| stream.synchronize());
    let kept = card.compute().capture(|stream| -> Result<(), CudaError> {
        launch(&add, stream, &numbers)?;
        let _ = card.zeros::<f32>(1);
        Ok(())
    });
    launch(&add, card.compute(), &numbers)?;
    let text =
        |result: Result<Graph, CudaError>| result.err().map(|e| e.to_string()).unwrap_or_default();
    Ok(format!("{}\n{}\n{}", text(passed_on), text(kept), read(&card, &numbers)?))
}

fn numbers() -> Result<(Card, Kernel, Buffer<f32>), CudaError> {
    let card = Card::open(0)?;
    let add = Module::load(&card, SOURCE, &NoCache)?.kernel("add")?;
    let numbers = card.zeros(5)?;
    Ok((card, add, numbers))
}

fn launch(add: &Kernel, stream: &Stream, numbers: &Buffer<f32>) -> Result<(), CudaError> {
    let arguments = [
        Argument::Address(numbers.address()),
        Argument::F32(1.0),
        Argument::I32(numbers.count() as i32),
    ];
    // SAFETY: `add` takes these types, and the buffer has so many numbers.
    unsafe { add.launch(stream, [1, 1, 1], [32, 1, 1], &arguments) }
}

fn read(card: &Card, numbers: &Buffer<f32>) -> Result<f32, CudaError> {
    let mut host = [0.0; 5];
    numbers.read(card.compute(), 0, &mut host)?;
    Ok(host[4])
}

#[test]
fn a_captured_graph_runs_when_it_is_launched() {
    Case::new("graph").reports("0 then 6");
}

#[test]
fn an_interrupted_capture_is_ended() {
    Case::new("failing capture").reports("the NVIDIA driver found no GPU; 1");
    Case::new("panicking capture").reports("true; 1");
    Case::new("waiting capture").reports(
        "waiting for a stream failed: CUDA error 900 (CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED): \
         operation not permitted when stream is capturing\n\
         capturing a graph failed: CUDA error 901 (CUDA_ERROR_STREAM_CAPTURE_INVALIDATED): \
         operation failed due to a previous error during capture\n1",
    );
}
